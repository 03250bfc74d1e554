"""ASGI: FastAPI, Starlette and everything else that speaks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from ._native import Server
from ._scope import watched

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class ASGIMiddleware:
    """Each HTTP request is a request of the server: ``app.add_middleware(perfwatch.ASGIMiddleware, server=server)``.

    It is in ``stage`` while the application runs, unless the application enters others, and in ``send`` while a part of the
    response is being written. It ends with the response, before background tasks. A status from 500 up or an exception is a
    failure, by its number or name; a request whose client goes away before its response is complete is cancelled, as soon as
    the application or the web server notices. The trace id comes from the header ``traceparent``.

    ``skip``: paths (or one path) that are no requests of the model, such as ``("/health", "/metrics")``.

    ``tokens``: each part of a response that is sent in parts is one step of tokens, so that the time to the first and between
    the others is known without a change to the application. Where a part is not a token, use :func:`perfwatch.tokens`.

    Stages survive awaits, tasks and Starlette's thread pool: use ``perfwatch.stage`` or ``perfwatch.current`` anywhere.
    WebSockets pass through; inside, each message may be a ``with server.request()`` of its own.
    """

    def __init__(
        self, app: App, server: Server, *, stage: str | None = None, skip: Collection[str] = (), tokens: bool = False
    ) -> None:
        self.app = app
        self.server = watched(server)
        self.stage = stage
        self.skip = {skip} if isinstance(skip, str) else skip
        self.tokens = tokens

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope.get("path") in self.skip:
            await self.app(scope, receive, send)
            return
        status, complete = 0, False
        request = self.server.request(self.stage)
        for name, value in scope.get("headers", ()):
            if name == b"traceparent":
                request.traceparent(value.decode("latin-1"))

        async def heard() -> Message:
            message = await receive()
            # Also said once the response is complete.
            if not complete and message.get("type") == "http.disconnect":
                request.cancel()
            return message

        async def observed(message: Message) -> None:
            nonlocal status, complete
            kind = message.get("type")
            if kind == "http.response.start":
                status = message.get("status", 0)
            elif kind in ("http.response.body", "http.response.pathsend"):
                complete = not message.get("more_body")
                if self.tokens and not complete and message.get("body"):
                    request.token()
            try:
                with request.stage("send"):
                    await send(message)
            except OSError:  # how a web server says that the client went away
                request.cancel()
                raise
            if complete:
                request.fail(str(status)) if status >= 500 else request.finish()

        with request:
            await self.app(scope, heard, observed)
            request.cancel()  # unless it ended with its response
