"""The loader's wrapper and the result cache."""

import asyncio
import gc
import importlib.util
import os
import threading
import time
import weakref

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


def test_a_loader_may_be_any_iterable(server, flushed):
    loader = perfwatch.DataLoader((number for number in range(3)), server, name="rows.fetch")
    assert loader, "a generator is true"
    assert list(loader) == [0, 1, 2]
    assert not perfwatch.DataLoader([], server)
    assert flushed().values["rows.fetch"] == 3


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed: 5 GB with what it needs")
@pytest.mark.parametrize("workers", [0, 2])
def test_pytorchs_loader(server, flushed, workers):
    from torch.utils.data import DataLoader

    loader = perfwatch.DataLoader(DataLoader(list(range(40)), batch_size=4, num_workers=workers), server)
    assert (len(loader), loader.batch_size) == (10, 4)
    for _ in range(2):
        assert [int(batch.sum()) for batch in loader] == [6 + 16 * number for number in range(10)]
    seen = flushed()
    assert seen.values["data_load.fetch"] == 20
    assert len(seen.sessions) == 1, "its workers record nothing"


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


def test_a_cache_is_no_more_particular_than_its_function(server):
    class Odd:
        """Cannot be compared."""

        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise ValueError("ambiguous")

    @perfwatch.cached(server, maxsize=None)
    def plain(*args, **kwargs):
        return args, kwargs

    assert plain(Odd()) and plain(Odd()), "what cannot be compared is passed through"
    assert plain(1, by=2) == ((1,), {"by": 2})
    assert plain((1,), (("by", 2),)) == (((1,), (("by", 2),)), {})
    assert plain(1, ("by", 2)) == ((1, ("by", 2)), {})

    @perfwatch.cached(server, maxsize="many")
    def other(value):
        return value

    assert other(1) == 1
    assert other.cache_info().maxsize == 1024

    @perfwatch.cached(server)
    def generate(count):
        yield from range(count)

    assert list(generate(2)) == list(generate(2)) == [0, 1], "a generator can be read once only, so it is made each time"

    @perfwatch.cached(server, maxsize=0)
    def never(value):
        return value

    assert never(1) == never(1) == 1
    assert never.cache_info() == (0, 2, 0, 0)


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


def test_a_key_that_uses_the_cache_itself_does_not_hang(server):
    class Key:
        """Looks something up while it is looked up."""

        def __init__(self, number):
            self.number = number

        def __hash__(self):
            plain(self.number)
            return 1

        def __eq__(self, other):
            plain(self.number)
            return self is other

    @perfwatch.cached(server, maxsize=4)
    def plain(key):
        return key

    def use():
        for number in range(4):
            plain(Key(number))

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_a_result_ends_while_the_cache_is_free(server):
    ends = []

    class Result:
        def __del__(self):
            # In another thread: what a result does at its end may wait for one that looks something up.
            thread = threading.Thread(target=lambda: ends.append(plain.cache_info()), daemon=True)
            thread.start()
            thread.join(10)
            ends.append(thread.is_alive())

    @perfwatch.cached(server, maxsize=1)
    def plain(key):
        return Result()

    plain(1)
    plain(2)
    assert [end is False for end in ends] == [False, True], "forgotten for a newer one"
    plain.cache_clear()
    assert [end is False for end in ends] == [False, True] * 2


def test_a_cache_goes_with_its_function(server):
    class Result:
        pass

    @perfwatch.cached(server)
    def make():
        return Result()

    result = weakref.ref(make())
    assert result() is not None, "it is cached"
    del make
    gc.collect()
    assert result() is None
