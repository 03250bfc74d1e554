"""Null handles, null strings, text that is not UTF-8, numbers from nowhere: no call may crash."""

from binding import SIGNATURES, arguments

perfwatch, socket = arguments()

for name, (_, parameters) in SIGNATURES.items():
    if name not in ("server_start", "options_new"):  # these make something of null
        nothing = [None if parameter.__name__ in ("c_void_p", "c_char_p") else 99 for parameter in parameters]
        assert getattr(perfwatch, name)(*nothing) in (None, 0, False, 10), name

options = perfwatch.options_new(b"odd \xff")
perfwatch.options_instance(options, None)
perfwatch.options_config(options, b"key", None)
perfwatch.options_config(options, b"key", b"\xfe")
perfwatch.options_socket(options, socket.encode())
server = perfwatch.options_start(options)
assert perfwatch.histogram_new(server, None, 0) is None
names = [perfwatch.server_stage(server, name) for name in (b"a", b"b", b"c", b"d", b"e", b"f", b"a", b"compute", None)]
assert names == [11, 12, 13, 14, 15, 10, 11, 5, 10], names

request = perfwatch.request_begin(server)
perfwatch.request_enter(request, 200)
perfwatch.request_traceparent(request, None)
perfwatch.request_traceparent(request, b"not one")
perfwatch.request_traceparent(request, b"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
perfwatch.request_generated_tokens(request, 5)
perfwatch.request_finish(request)
perfwatch.request_fail_with(perfwatch.request_begin(server), None)
perfwatch.request_cancel(perfwatch.request_begin(server))
late = perfwatch.histogram_new(server, b"late", 77)
assert perfwatch.server_close(server)
perfwatch.histogram_record(late, 2**64 - 1)
perfwatch.histogram_free(late)
print("ok")
