"""Two lines in a model server, and perfwatch knows every request's life.

>>> import perfwatch
>>> server = perfwatch.Server("my-model")
>>> with server.request("queue") as request:   # finishes at the end, fails on an exception
...     request.enter("compute")

Nothing here raises into your code, blocks or does I/O on your threads. Without an agent beside the server the numbers wait
in a few KiB for one. Times are seconds as float; inside they are integer nanoseconds. ``PERFWATCH_DISABLED=1`` turns all of
it into nothing.

The frameworks: :class:`ASGIMiddleware` (FastAPI, Starlette), :class:`WSGIMiddleware` (Flask), ``perfwatch.grpc`` (gRPC).
Anything else: :func:`handler`, :func:`stage`, :class:`DataLoader`, :func:`cached`.
"""

from ._native import Histogram, Request, Server, StageScope, Timer, __version__
from ._scope import current, handler, stage
from .asgi import ASGIMiddleware
from .cache import CacheInfo, cached
from .data import DataLoader
from .wsgi import WSGIMiddleware

__all__ = [
    "ASGIMiddleware",
    "CacheInfo",
    "DataLoader",
    "Histogram",
    "Request",
    "Server",
    "StageScope",
    "Timer",
    "WSGIMiddleware",
    "__version__",
    "cached",
    "current",
    "handler",
    "stage",
]
