"""A result cache that says how often it helped."""

from __future__ import annotations

import functools
import inspect
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar, cast

from ._native import Server, tell
from ._scope import watched

F = TypeVar("F", bound=Callable[..., Any])


class CacheInfo(NamedTuple):
    """What a cache did in this process, as ``functools.lru_cache`` tells it."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class _Cache:
    """The most recently used results. Its lock is held for look-ups only, never while a result is made or destroyed.

    Looking up runs the keys' own ``__hash__`` and ``__eq__``, and the garbage collector runs whenever it likes: what they
    do may come back to the cache in the same thread, so the lock lets it in.
    """

    def __init__(self, server: Server, maxsize: int | None) -> None:
        self._server = server
        self._maxsize = maxsize
        self._results: OrderedDict[Hashable, Any] = OrderedDict()
        self._hits = self._misses = 0
        self.renew()
        _caches.add(self)

    def renew(self) -> None:
        """Gets a new lock: another thread may have held the old one while this one forked."""
        self._lock = threading.RLock()

    def get(self, key: Hashable) -> tuple[bool, Any]:
        """Whether there is a result, and the result."""
        hit, result = False, None
        with self._lock:
            try:
                result = self._results[key]
                self._results.move_to_end(key)
                hit = True
                self._hits += 1
            except Exception:  # unknown, or not to be cached: without a hash, or not to be compared
                self._misses += 1
        self._server.cache_hit() if hit else self._server.cache_miss()
        return hit, result

    def put(self, key: Hashable, result: Any) -> None:
        """Remembers a result, and forgets the one that was not used for the longest."""
        forgotten: list[Any] = []  # until the lock is free: what an end of a result does is not known
        with self._lock:
            try:
                forgotten.append(self._results.get(key))
                self._results[key] = result
                while self._maxsize is not None and len(self._results) > max(self._maxsize, 0):
                    forgotten.append(self._results.popitem(last=False))
            except Exception:  # as in `get`
                return

    def info(self) -> CacheInfo:
        """Counts of this process."""
        with self._lock:
            return CacheInfo(self._hits, self._misses, self._maxsize, len(self._results))

    def clear(self) -> None:
        """Forgets all results; counts go on."""
        with self._lock:
            forgotten, self._results = self._results, OrderedDict()
        del forgotten  # here, where the lock is free


# Weakly: a cache lives as long as its function.
_caches: weakref.WeakSet[_Cache] = weakref.WeakSet()


def _renew_all() -> None:
    for cache in list(_caches):
        cache.renew()


os.register_at_fork(after_in_child=_renew_all)


# Between positional and keyword arguments in a key: no argument is equal to it.
_KEYWORDS = object()


def _key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    return (*args, _KEYWORDS, *sorted(kwargs.items())) if kwargs else args


def cached(server: Server, *, maxsize: int | None = 1024) -> Callable[[F], F]:
    """Decorates a function (or coroutine function) whose results for the same arguments are the same.

    Keeps the ``maxsize`` most recently used results (None: all of them), and reports each look-up. Arguments without a hash
    are passed through and count as misses; exceptions are not kept. Calls at once for one key each make the result. The
    function gets ``cache_info()`` and ``cache_clear()``, as from ``functools.lru_cache``. A generator function is left as it
    is: its result can be read once only.
    """
    server = watched(server)
    if maxsize is not None and not isinstance(maxsize, int):
        tell("a cache's size is a number of results or None; 1024 is taken")
        maxsize = 1024

    def decorate(function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            tell("a generator's result can be read once only; it is not cached")
            return function
        cache = _Cache(server, maxsize)
        wrapper: Any
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                key = _key(args, kwargs)
                hit, result = cache.get(key)
                if not hit:
                    result = await function(*args, **kwargs)
                    cache.put(key, result)
                return result

        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                key = _key(args, kwargs)
                hit, result = cache.get(key)
                if not hit:
                    result = function(*args, **kwargs)
                    cache.put(key, result)
                return result

        wrapper.cache_info = cache.info
        wrapper.cache_clear = cache.clear
        return cast(F, wrapper)

    return decorate
