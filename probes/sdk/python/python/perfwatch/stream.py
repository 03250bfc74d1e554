"""Tokens that leave one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar, overload

from ._native import Request, current, tell

T = TypeVar("T")


@overload
def tokens(items: Iterable[T], count: Callable[[T], int] | None = None) -> Iterator[T]: ...
@overload
def tokens(items: AsyncIterable[T], count: Callable[[T], int] | None = None) -> AsyncIterator[T]: ...
def tokens(items: Any, count: Callable[[Any], int] | None = None) -> Any:
    """The same items, iterable or async iterable, each of them one step of tokens of the current request.

    The first step gives the time to first token (since the request's arrival), each later one the time since the one before.
    ``count`` tells the number of tokens of an item (default: one each; 0: no step, as for a role or a keep-alive).

    >>> return StreamingResponse(perfwatch.tokens(generate(prompt)))
    """
    request = current()
    if request is None:
        return items
    return _later(items, request, count) if hasattr(items, "__aiter__") else _now(items, request, count)


def _now(items: Iterable[T], request: Request, count: Callable[[T], int] | None) -> Iterator[T]:
    iterator = iter(items)
    try:
        for item in iterator:
            _step(request, item, count)
            yield item
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def _later(
    items: AsyncIterable[T], request: Request, count: Callable[[T], int] | None
) -> AsyncIterator[T]:
    iterator = aiter(items)
    try:
        async for item in iterator:
            _step(request, item, count)
            yield item
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _step(request: Request, item: T, count: Callable[[T], int] | None) -> None:
    if count is None:
        request.token()
        return
    try:
        request.token(count(item))
    except Exception as error:
        tell(f"the function that counts an item's tokens raised {type(error).__name__}; the item counts as one")
        request.token()
