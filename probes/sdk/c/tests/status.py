"""Prints the status after an attempt to flush, and whether the flush was received."""

from binding import arguments

perfwatch, socket = arguments()
server = perfwatch.server(b"alone", socket)
received = perfwatch.server_flush(server)
print(perfwatch.server_status(server), received)
perfwatch.server_close(server)
