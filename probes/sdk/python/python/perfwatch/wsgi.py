"""WSGI: Flask, Django and everything else that speaks it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from ._native import Request, Server
from ._scope import watched

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class WSGIMiddleware:
    """Each HTTP request is a request of the server: ``app.wsgi_app = perfwatch.WSGIMiddleware(app.wsgi_app, server)``.

    It is in ``stage`` while the application runs, unless the application enters others, and in ``send`` while the web server
    writes a part of the response. A status from 500 up or an exception is a failure, by its number or name; a response that
    the web server closes before its end (the client went away) is cancelled. The trace id comes from the header
    ``traceparent``. A file that the web server may send by itself counts as sent.

    ``skip``: paths (or one path) that are no requests of the model, such as ``("/health", "/metrics")``.
    """

    def __init__(
        self, app: App, server: Server, *, stage: str | None = None, skip: Collection[str] = ()
    ) -> None:
        self.app = app
        self.server = watched(server)
        self.stage = stage
        self.skip = {skip} if isinstance(skip, str) else skip

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in self.skip:
            return self.app(environ, start_response)
        status = "0"

        def observed(line: str, *rest: Any, **more: Any) -> Any:
            nonlocal status
            status = line
            return start_response(line, *rest, **more)

        request = self.server.request(self.stage)
        request.traceparent(environ.get("HTTP_TRACEPARENT", ""))
        request.__enter__()
        try:
            body = self.app(environ, observed)
            file_wrapper = environ.get("wsgi.file_wrapper")
            if not (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
                return _Body(body, request, lambda: status[:3] if status[:1] == "5" else None)
        except BaseException as error:
            request.__exit__(type(error), error, None)
            raise
        request.__exit__(None, None, None)
        return body


class _Body:
    """The application's response, and the end of its request."""

    def __init__(self, body: Iterable[bytes], request: Request, failed: Callable[[], str | None]) -> None:
        self._body = body
        self._parts = iter(body)
        self._request = request
        self._failed = failed
        self._sending: Any = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._sent()
        try:
            part = next(self._parts)
        except StopIteration:
            kind = self._failed()
            self._request.finish() if kind is None else self._request.fail(kind)
            # Here and in `close`: a web server that forgets to close must not leave the thread with an ended request.
            self._request.__exit__(None, None, None)
            raise
        except BaseException as error:
            self._request.__exit__(type(error), error, None)
            raise
        self._sending = self._request.stage("send")
        self._sending.__enter__()
        return part

    def _sent(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.__exit__(None, None, None)

    def close(self) -> None:
        """The web server is done with the response."""
        self._request.cancel()  # unless its end was reached
        self._request.__exit__(None, None, None)
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
