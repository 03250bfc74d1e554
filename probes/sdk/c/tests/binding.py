"""The library through ctypes, as a user of another language would bind it."""

import ctypes
import sys
from ctypes import c_bool, c_char_p, c_uint8, c_uint32, c_uint64, c_void_p

SIGNATURES = {
    "server_start": (c_void_p, [c_char_p]),
    "server_dispatch": (None, [c_void_p, c_uint32, c_uint32]),
    "server_cache_hit": (None, [c_void_p]),
    "server_cache_miss": (None, [c_void_p]),
    "server_stage": (c_uint8, [c_void_p, c_char_p]),
    "server_status": (c_uint8, [c_void_p]),
    "server_flush": (c_bool, [c_void_p]),
    "server_close": (c_bool, [c_void_p]),
    "options_new": (c_void_p, [c_char_p]),
    "options_instance": (None, [c_void_p, c_char_p]),
    "options_max_batch_size": (None, [c_void_p, c_uint32]),
    "options_config": (None, [c_void_p, c_char_p, c_char_p]),
    "options_socket": (None, [c_void_p, c_char_p]),
    "options_start": (c_void_p, [c_void_p]),
    "request_begin": (c_void_p, [c_void_p]),
    "request_enter": (None, [c_void_p, c_uint8]),
    "request_finish": (None, [c_void_p]),
    "request_fail": (None, [c_void_p]),
    "request_fail_with": (None, [c_void_p, c_char_p]),
    "request_cancel": (None, [c_void_p]),
    "request_token": (None, [c_void_p]),
    "request_tokens": (None, [c_void_p, c_uint32]),
    "request_prompt_tokens": (None, [c_void_p, c_uint64]),
    "request_generated_tokens": (None, [c_void_p, c_uint64]),
    "request_traceparent": (None, [c_void_p, c_char_p]),
    "request_abandon": (None, [c_void_p]),
    "histogram_new": (c_void_p, [c_void_p, c_char_p, c_uint8]),
    "histogram_record": (None, [c_void_p, c_uint64]),
    "histogram_free": (None, [c_void_p]),
}


class Library:
    """Each function under its name without the prefix."""

    def __init__(self, path):
        library = ctypes.CDLL(path)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, "perfwatch_" + name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def server(self, name, socket):
        """A server that speaks to this socket."""
        options = self.options_new(name)
        self.options_socket(options, socket.encode())
        return self.options_start(options)


def arguments():
    """The library and the socket that the test named."""
    return Library(sys.argv[1]), sys.argv[2]
