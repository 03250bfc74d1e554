"""Two lines in a model server, and perfwatch knows every request's life.

>>> import perfwatch
>>> server = perfwatch.Server("my-model")
>>> with server.request("queue") as request:   # finishes at the end, fails on an exception
...     request.enter("compute")

Nothing here raises into your code, blocks or does I/O on your threads. Without an agent beside the server the numbers wait
in a few KiB for one. Times are seconds as float; inside they are integer nanoseconds. ``PERFWATCH_DISABLED=1`` turns all of
it into nothing.

The frameworks: :class:`ASGIMiddleware` (FastAPI, Starlette, and what is built on them), :class:`WSGIMiddleware` (Flask),
``perfwatch.grpc`` (gRPC). Anything else: :func:`handler`, :class:`stage`, :func:`tokens`, :class:`DataLoader`,
:func:`cached`.
"""

from ._native import Histogram, Request, Server, StageScope, Timer, __version__, current, stage
from ._scope import handler

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
    "tokens",
]

TYPE_CHECKING = False  # `typing` itself would take longer to import than all of this
if TYPE_CHECKING:
    from .asgi import ASGIMiddleware
    from .cache import CacheInfo, cached
    from .data import DataLoader
    from .stream import tokens
    from .wsgi import WSGIMiddleware
else:
    # Each is in a file of its own, imported by who uses it.
    _FILES = {
        "ASGIMiddleware": "asgi",
        "CacheInfo": "cache",
        "DataLoader": "data",
        "WSGIMiddleware": "wsgi",
        "cached": "cache",
        "tokens": "stream",
    }

    def __getattr__(name):
        if name not in _FILES:
            raise AttributeError(f"module 'perfwatch' has no attribute {name!r}")
        from importlib import import_module

        found = getattr(import_module(f"perfwatch.{_FILES[name]}"), name)
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *_FILES})
