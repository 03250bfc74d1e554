"""What can be wrapped around functions that do not know their request."""

from __future__ import annotations

from ._native import Server, stage, tell

# As in the package's first file: `typing`, `inspect` and what they import are needed by who decorates, not by who imports.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])


def handler(server: Server, stage: str | None = None) -> Callable[[F], F]:
    """Decorates a function each call of which is one request, in the given stage from its beginning.

    Functions, coroutines, generators and async generators can be decorated; a generator's request lasts until it ends.
    """
    if callable(server):
        tell("a handler needs a server, as in @perfwatch.handler(server); the function runs as it was")
        return server
    server = watched(server)
    return lambda function: around(function, lambda: server.request(stage))


def watched(server: Server) -> Server:
    """The server, or one called unnamed for what is none."""
    if isinstance(server, Server):
        return server
    tell("what is given for a server is no perfwatch.Server; its numbers go to one called unnamed")
    return Server("unnamed")


def within(function: F, scope: stage) -> F:
    """Each call of the function is spent in the scope's stage."""
    return around(function, lambda: scope)


def around(function: F, scope: Callable[[], Any]) -> F:
    """Runs each call of the function, whatever its kind, inside a scope."""
    import functools
    import inspect

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

    return wrapper  # type: ignore[no-any-return]
