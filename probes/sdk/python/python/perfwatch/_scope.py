"""The current request, and what can be wrapped around code that does not know its request."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, TypeVar, cast

from ._native import Request, Server, StageScope, current_request

F = TypeVar("F", bound=Callable[..., Any])


def current() -> Request | None:
    """The request of this thread or asyncio task, made so by its ``with`` statement, a decorator or a middleware.

    It follows awaits, tasks and ``asyncio.to_thread``; ``loop.run_in_executor`` and threads of your own do not get it:
    hand them the request.
    """
    return current_request.get()


class stage:  # noqa: N801 - used as a function
    """The current request is in this stage during a ``with`` block, or during each call of a decorated function.

    Functions, coroutines, generators and async generators can be decorated. Without a current request it does nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._scope: StageScope | None = None

    def __enter__(self) -> Request | None:
        request = current_request.get()
        if request is None:
            return None
        self._scope = request.stage(self._name)
        return self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        name = self._name
        return _around(function, lambda: stage(name))


def handler(server: Server, stage: str | None = None) -> Callable[[F], F]:
    """Decorates a function each call of which is one request, in the given stage from its beginning.

    Functions, coroutines, generators and async generators can be decorated; a generator's request lasts until it ends.
    """
    return lambda function: _around(function, lambda: server.request(stage))


def _around(function: F, scope: Callable[[], Any]) -> F:
    """Runs each call of the function, whatever its kind, inside a fresh scope."""
    wrapper: Any
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with scope():
                items = function(*args, **kwargs)
                try:
                    async for item in items:
                        yield item
                finally:
                    await items.aclose()

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with scope():
                return await function(*args, **kwargs)

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with scope():
                return (yield from function(*args, **kwargs))

    else:

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with scope():
                return function(*args, **kwargs)

    return cast(F, wrapper)
