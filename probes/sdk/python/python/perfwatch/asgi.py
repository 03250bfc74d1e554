"""ASGI: FastAPI, Starlette and everything else that speaks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ._native import Server

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class ASGIMiddleware:
    """Each HTTP request is a request of the server: ``app.add_middleware(perfwatch.ASGIMiddleware, server=server)``.

    It is in ``stage`` while the application runs, unless the application enters others, and in ``send`` while a part of the
    response is being written. It ends with the response, before background tasks. A status from 500 up or an exception is a
    failure, by its number or name; a response that is never completed (its client went away) is cancelled. The trace id
    comes from the header ``traceparent``.

    Stages survive awaits, tasks and Starlette's thread pool: use ``perfwatch.stage`` or ``perfwatch.current`` anywhere.
    """

    def __init__(self, app: App, server: Server, *, stage: str | None = None) -> None:
        self.app = app
        self.server = server
        self.stage = stage

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        request = self.server.request(self.stage)
        for name, value in scope.get("headers", ()):
            if name == b"traceparent":
                request.traceparent(value.decode("latin-1"))

        async def observed(message: Message) -> None:
            nonlocal status
            kind = message.get("type")
            if kind == "http.response.start":
                status = message.get("status", 0)
            with request.stage("send"):
                await send(message)
            if kind in ("http.response.body", "http.response.pathsend") and not message.get("more_body"):
                request.fail(str(status)) if status >= 500 else request.finish()

        with request:
            await self.app(scope, receive, observed)
            request.cancel()  # unless it ended with its response
