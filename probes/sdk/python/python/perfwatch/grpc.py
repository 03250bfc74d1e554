"""gRPC: interceptors for ``grpc.server`` and ``grpc.aio.server``.

>>> grpc.server(pool, interceptors=[perfwatch.grpc.ServerInterceptor(server)])
>>> grpc.aio.server(interceptors=[perfwatch.grpc.AioServerInterceptor(server)])

A call is in ``queue`` until its handler begins (for ``grpc.server``: until a thread of the pool is free), then in ``stage``
unless the handler enters others, and in ``send`` while a message of a response stream is being written. A code that is the
server's fault is a failure of its name, an exception without a code one of its class's name; other codes, as
``INVALID_ARGUMENT``, are answers. A call that the client gave up is cancelled, and one without a handler abandoned. The trace
id comes from the metadata ``traceparent``. Each message of a stream of tokens: ``yield from perfwatch.tokens(messages)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from ._native import Request, Server
from ._scope import watched

if TYPE_CHECKING:  # generic in its stubs, not at run time
    Handler = grpc.RpcMethodHandler[Any, Any]

__all__ = ["AioServerInterceptor", "ServerInterceptor"]

# Which codes are the server's fault: OpenTelemetry's conventions for gRPC, as in the SDK for Rust.
_FAILURES = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


class ServerInterceptor(grpc.ServerInterceptor):
    """Each call is a request of the server."""

    def __init__(self, server: Server, *, stage: str = "other") -> None:
        self._server = watched(server)
        self._stage = stage

    def intercept_service(
        self, continuation: Callable[[Any], Handler | None], handler_call_details: Any
    ) -> Handler | None:
        request = _arrived(self._server, handler_call_details)
        handler = continuation(handler_call_details)
        return None if handler is None else _observed(handler, request, self._stage)


class AioServerInterceptor(grpc.aio.ServerInterceptor):
    """Each call is a request of the server."""

    def __init__(self, server: Server, *, stage: str = "other") -> None:
        self._server = watched(server)
        self._stage = stage

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Handler | None]], handler_call_details: Any
    ) -> Handler | None:
        request = _arrived(self._server, handler_call_details)
        handler = await continuation(handler_call_details)
        return None if handler is None else _observed(handler, request, self._stage)


def _arrived(server: Server, details: Any) -> Request:
    request = server.request("queue")
    for name, value in getattr(details, "invocation_metadata", None) or ():
        if name == "traceparent":
            request.traceparent(value)
    return request


def _observed(handler: Handler, request: Request, stage: str) -> Handler:
    """The same handler, whose one call is this request."""
    kind = {
        (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
        (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
        (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
        (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
    }
    name, make = kind[handler.request_streaming, handler.response_streaming]
    behaviour = getattr(handler, name)
    return make(
        _wrap(behaviour, handler.response_streaming, request, stage),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _wrap(behaviour: Callable[..., Any], streams: bool, request: Request, stage: str) -> Callable[..., Any]:
    wrapper: Any
    if inspect.isasyncgenfunction(behaviour):

        async def wrapper(message: Any, context: Any) -> Any:
            with _Call(request, stage, context):
                async for part in behaviour(message, context):
                    with request.stage("send"):
                        yield part

    elif inspect.iscoroutinefunction(behaviour):

        async def wrapper(message: Any, context: Any) -> Any:
            with _Call(request, stage, context):
                return await behaviour(message, context)

    elif streams:

        def wrapper(message: Any, context: Any) -> Any:
            with _Call(request, stage, context):
                for part in behaviour(message, context):
                    with request.stage("send"):
                        yield part

    else:

        def wrapper(message: Any, context: Any) -> Any:
            with _Call(request, stage, context):
                return behaviour(message, context)

    return cast(Callable[..., Any], wrapper)


class _Call:
    """A handler's turn with its request, which ends as the context says: a handler that returned may have set a code, and
    one that raised may have been told to by ``context.abort``."""

    def __init__(self, request: Request, stage: str, context: Any) -> None:
        self._request = request
        self._context = context
        request.enter(stage)

    def __enter__(self) -> None:
        self._request.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        context = self._context
        try:
            cancelled = context.cancelled() if hasattr(context, "cancelled") else not context.is_active()
            code = context.code()
        except Exception:  # an older grpcio does not tell
            cancelled, code = False, None
        if isinstance(code, int):  # grpc.aio has numbers
            code = next((known for known in grpc.StatusCode if known.value[0] == code), None)
        name = "OK" if code is None else getattr(code, "name", "UNKNOWN")
        if name == "CANCELLED" or (cancelled and kind is None and name == "OK"):
            self._request.cancel()
        elif name in _FAILURES:
            self._request.fail(name)
        elif name != "OK":
            self._request.finish()
        self._request.__exit__(kind, error, trace)
