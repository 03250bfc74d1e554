"""The loader's wrapper and the result cache."""

import asyncio
import os
import time

import perfwatch
import pytest


class Loader:
    """Slow like a disk, with something of its own."""

    batch_size = 4

    def __iter__(self):
        for number in range(5):
            time.sleep(0.004)
            yield number

    def __len__(self):
        return 5


def test_each_fetch_is_timed(server, flushed):
    loader = perfwatch.DataLoader(Loader(), server)
    assert (len(loader), loader.batch_size) == (5, 4)
    with pytest.raises(AttributeError):
        _ = loader.no_such_thing
    with server.request("compute"):
        assert list(loader) == [0, 1, 2, 3, 4]
    assert sum(loader) == 10, "it can be read again"
    seen = flushed()
    assert seen.values["data_load.fetch"] == 10, "the end is no fetch"
    assert seen.sums["data_load.fetch"] >= 10 * 4_000_000, "nanoseconds"
    assert seen.sums["stage.duration/data_load"] >= 5 * 4_000_000
    assert seen.values["stage.duration/compute"] == 1


def test_an_exception_of_the_loader_arrives(server):
    def broken():
        yield 1
        raise OSError("no such file")

    batches = iter(perfwatch.DataLoader(broken(), server))
    assert next(batches) == 1
    with pytest.raises(OSError, match="no such file"):
        next(batches)


def test_a_cache_tells_hits_and_misses(server, flushed):
    calls = []

    @perfwatch.cached(server, maxsize=2)
    def double(value, *, by=2):
        calls.append(value)
        return value * by

    assert [double(value) for value in (1, 2, 1, 3, 2, 2)] == [2, 4, 2, 6, 4, 4]
    assert calls == [1, 2, 3, 2], "2 was the least recently used when 3 came"
    assert double(2, by=3) == 6
    assert double([1], by=2) == [1, 1], "no hash: passed through"
    assert double.cache_info() == (2, 6, 2, 2)
    double.cache_clear()
    assert double.cache_info().currsize == 0
    seen = flushed()
    assert (seen.counts["cache_hits"], seen.counts["cache_misses"]) == (2, 6)


def test_an_exception_is_not_kept(server):
    calls = []

    @perfwatch.cached(server)
    def fragile():
        calls.append(1)
        if len(calls) == 1:
            raise OSError("try again")
        return "fine"

    with pytest.raises(OSError, match="try again"):
        fragile()
    assert fragile() == fragile() == "fine"
    assert len(calls) == 2


def test_coroutines_are_cached_by_their_result(server):
    calls = []

    @perfwatch.cached(server)
    async def embed(text):
        calls.append(text)
        await asyncio.sleep(0)
        return len(text)

    async def main():
        return [await embed(text) for text in ("cat", "horse", "cat")]

    assert asyncio.run(main()) == [3, 5, 3]
    assert calls == ["cat", "horse"]


def test_a_fork_while_another_thread_looks_up_leaves_the_child_working(server):
    import threading

    entered, leave = threading.Event(), threading.Event()

    class Key:
        """Its hash is computed while the cache is locked."""

        blocking = True

        def __hash__(self):
            if self.blocking and threading.current_thread() is not threading.main_thread():
                entered.set()
                leave.wait(30)
            return 1

    @perfwatch.cached(server)
    def plain(key):
        return 1

    thread = threading.Thread(target=plain, args=(Key(),))
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(plain("x") - 1)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, 9)
        time.sleep(0.02)
    leave.set()
    thread.join()
    assert ended[1] == 0, "the child hung on a lock that nobody holds there"
