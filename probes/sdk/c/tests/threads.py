"""Eight threads, which ctypes really runs at once: the interpreter's lock is released during each call."""

import threading

from binding import arguments

perfwatch, socket = arguments()
server = perfwatch.server(b"threads", socket)


def work():
    sizes = perfwatch.histogram_new(server, b"sizes", 4)
    for i in range(500):
        request = perfwatch.request_begin(server)
        perfwatch.request_enter(request, 5)
        perfwatch.histogram_record(sizes, i)
        if i == 250:
            perfwatch.request_abandon(request)
        else:
            perfwatch.request_finish(request)
    perfwatch.histogram_free(sizes)


threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert perfwatch.server_close(server)
print("ok")
