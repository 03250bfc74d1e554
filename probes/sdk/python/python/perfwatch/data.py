"""Time spent waiting for data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from ._native import Server, stage
from ._scope import watched

T = TypeVar("T")


class DataLoader(Generic[T]):
    """Iterates over a loader (PyTorch's ``DataLoader``, or any iterable) and records how long each fetch took.

    Seconds per batch go into the histogram ``name``; its count is the number of batches. A current request is in stage
    ``data_load`` while it waits. Everything else is the loader's own: ``len``, attributes, exceptions.
    """

    def __init__(self, loader: Iterable[T], server: Server, *, name: str = "data_load.fetch") -> None:
        self._loader = loader
        self._fetch = watched(server).histogram(name, "s")

    def __iter__(self) -> Iterator[T]:
        items = iter(self._loader)
        while True:
            # The end is no batch: it is not recorded.
            with stage("data_load"):
                timer = self._fetch.time().__enter__()
                try:
                    item = next(items)
                except StopIteration:
                    return
                timer.__exit__()
            yield item

    def __bool__(self) -> bool:
        return bool(self._loader)

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not yet made, as while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self._loader, name)
