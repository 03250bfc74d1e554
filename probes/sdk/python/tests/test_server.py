"""The objects by themselves."""

import asyncio
import gc
import math
import os
import subprocess
import sys
import threading

import perfwatch
import pytest


def test_a_request_is_counted_by_how_it_ends(server, flushed):
    with server.request("queue") as request:
        request.enter("compute")
    with pytest.raises(ValueError, match="a bug"), server.request():
        raise ValueError("a bug")
    with pytest.raises(KeyboardInterrupt), server.request():
        raise KeyboardInterrupt
    dropped = server.request()
    del dropped
    gc.collect()
    server.request().finish()
    server.request().fail()
    seen = flushed()
    assert seen.counts["started"] == 6
    assert [seen.counts[name] for name in ("completed", "failed", "abandoned")] == [2, 2, 2]
    assert seen.errors == {"ValueError": 1, "other": 1}
    assert seen.values["request.duration"] == 4, "abandoned requests have no duration"


def test_an_ended_request_does_nothing_more(server, flushed):
    request = server.request()
    request.finish()
    request.fail()
    request.abandon()
    request.enter("send")
    with request, request.stage("send"):
        pass
    assert request.ended
    seen = flushed()
    assert (seen.counts["started"], seen.ended) == (1, 1)


def test_a_stage_scope_returns_to_where_it_was(server, flushed):
    with server.request("queue") as request:
        with request.stage("compute"), request.stage("rerank"):
            pass
        with pytest.raises(ValueError), request.stage("decode"):
            raise ValueError
        request.enter("send")
    seen = flushed()
    told = {name.removeprefix("stage.duration/") for name in seen.values if name.startswith("stage.duration/")}
    assert {"queue", "compute", "rerank", "decode", "send"} <= told
    whole = sum(seen.sums[name] for name in seen.sums if name.startswith("stage.duration/"))
    assert whole == seen.sums["request.duration"], "a request is in one stage at any instant"


def test_histograms_keep_count_and_sum_exactly(server, flushed):
    seconds, tokens = server.histogram("seconds"), server.histogram("tokens", "{token}")
    for value in range(1000):
        seconds.record(value / 1000)
        tokens.record(value)
    seen = flushed()
    assert (seen.values["seconds"], seen.sums["seconds"]) == (1000, 499_500 * 1_000_000)
    assert (seen.values["tokens"], seen.sums["tokens"]) == (1000, 499_500)


def test_tokens_and_traces_are_told(server, flushed):
    with server.request("prefill") as request:
        assert request.traceparent("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
        assert not request.traceparent("not one")
        request.prompt_tokens(100)
        request.enter("decode")
        for _ in range(5):
            request.token()
        request.token(3)
        request.generated_tokens(10)
    server.request().cancel()
    server.request().fail("timeout")
    seen = flushed()
    assert (seen.counts["prompt_tokens"], seen.counts["generated_tokens"]) == (100, 10)
    assert (seen.values["time_to_first_token"], seen.values["inter_token"]) == (1, 5)
    assert seen.trace_ids == {"0123456789abcdef0123456789abcdef"}
    assert (seen.counts["cancelled"], seen.errors) == (1, {"timeout": 1})


def test_the_first_token_can_be_told_apart(server, flushed):
    with server.request("prefill") as request:
        request.first_token()
        request.first_token()
        request.generated_tokens(40)
    seen = flushed()
    assert (seen.values["time_to_first_token"], seen.values["inter_token"]) == (1, 0)
    assert seen.counts["generated_tokens"] == 40


def test_a_stream_of_tokens_records_itself(server, flushed, caplog):
    closed = []

    def words():
        try:
            yield from ["the", "cat", "sat"]
        finally:
            closed.append("words")

    async def later():
        for word in words():
            yield word

    async def collect():
        return [word async for word in perfwatch.tokens(later(), count=len)]

    assert list(perfwatch.tokens(words())) == ["the", "cat", "sat"], "without a request it is the same"
    with server.request("decode"):
        assert list(perfwatch.tokens(words())) == ["the", "cat", "sat"]
        assert list(perfwatch.tokens(iter([1, 2]))) == [1, 2]
    with server.request("decode"):
        assert asyncio.run(collect()) == ["the", "cat", "sat"]
    with server.request("decode"):
        left = perfwatch.tokens(words())
        next(left)
        left.close()
        assert closed == ["words"] * 4, "it is closed with who reads it"
    with server.request("decode"):
        assert list(perfwatch.tokens("ab", count=lambda _: 1 / 0)) == ["a", "b"]
    seen = flushed()
    assert seen.counts["generated_tokens"] == 5 + 9 + 1 + 2
    assert (seen.values["time_to_first_token"], seen.values["inter_token"]) == (4, 4 + 2 + 0 + 1)
    assert "ZeroDivisionError" in caplog.text


def test_a_timer_decorates_functions(server, flushed):
    histogram = server.histogram("calls")

    @histogram.time()
    def plain(value):
        return value

    @histogram.time()
    async def coroutine(value):
        await asyncio.sleep(0)
        return value

    assert [plain(1), plain(2), asyncio.run(coroutine(3))] == [1, 2, 3]
    assert flushed().values["calls"] == 3


def test_a_timer_records_a_block_that_raises_too(server, flushed):
    histogram = server.histogram("block")
    with histogram.time():
        threading.Event().wait(0.02)
    with pytest.raises(ValueError), histogram.time():
        raise ValueError
    seen = flushed()
    assert seen.values["block"] == 2
    assert seen.sums["block"] >= 20_000_000, "nanoseconds"


def test_threads_are_counted_exactly(server, flushed):
    histogram = server.histogram("values", "{item}")

    def work():
        for value in range(500):
            with server.request("compute"):
                histogram.record(value)
            server.dispatch(2, 2)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = flushed()
    assert seen.counts["completed"] == seen.counts["dispatches"] == 4000
    assert (seen.values["values"], seen.sums["values"]) == (4000, 8 * 499 * 250)
    assert (seen.values["batch.size"], seen.sums["batch.size"]) == (4000, 8000)


def test_tasks_keep_their_own_request_across_awaits(server, flushed):
    async def serve(name):
        with server.request() as request:
            with perfwatch.stage(name):
                for _ in range(5):
                    await asyncio.sleep(0.001)
                    assert perfwatch.current() is request
                await asyncio.gather(deeper(request), asyncio.to_thread(lambda: [perfwatch.current()]))

    async def deeper(request):
        assert perfwatch.current() is request, "a task of a request belongs to it"

    async def main():
        await asyncio.gather(*(serve(name) for name in ["prefill", "decode"] * 20))
        cancelled = asyncio.create_task(serve("queue"))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(main())
    assert perfwatch.current() is None
    seen = flushed()
    assert (seen.counts["completed"], seen.counts["cancelled"]) == (40, 1)
    assert seen.values["stage.duration/prefill"] == seen.values["stage.duration/decode"] == 20
    assert seen.sums["stage.duration/decode"] >= 20 * 5_000_000


def test_tasks_of_one_request_may_leave_their_stages_in_any_order(server, flushed):
    async def main():
        first_may_end, second_began = asyncio.Event(), asyncio.Event()

        async def first():
            with perfwatch.stage("preprocess"):
                await second_began.wait()
            first_may_end.set()

        async def second():
            with perfwatch.stage("data_load"):
                second_began.set()
                await first_may_end.wait()
                await asyncio.sleep(0.02)

        with server.request("queue"):
            await asyncio.gather(first(), second())
            await asyncio.sleep(0.02)

    asyncio.run(main())
    seen = flushed()
    # Still data_load after the other left, and queue again in the end.
    assert seen.sums["stage.duration/data_load"] >= 20_000_000
    assert seen.sums["stage.duration/queue"] >= 20_000_000
    assert seen.sums["stage.duration/preprocess"] < 20_000_000


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup came with 3.11")
def test_one_stage_object_serves_all_tasks_of_a_group(server, flushed):
    decode = perfwatch.stage("decode")

    async def serve(number):
        with server.request("queue") as request:
            for _ in range(3):
                with decode as inside:
                    assert inside is request
                    await asyncio.sleep(0.001 * (number % 3))

    async def main():
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(serve(number))
            # A task that raises cancels the others.
            group.create_task(fail())

    async def fail():
        with server.request("queue"):
            await asyncio.sleep(0.2)
            raise ValueError("a bug")

    with pytest.raises(ExceptionGroup):
        asyncio.run(main())
    seen = flushed()
    assert (seen.counts["completed"], seen.counts["failed"]) == (30, 1)
    assert seen.values["stage.duration/decode"] == 30
    whole = sum(seen.sums[name] for name in seen.sums if name.startswith("stage.duration/"))
    assert whole == seen.sums["request.duration"]


def test_decorators_wrap_every_kind_of_function(server, flushed):
    @perfwatch.handler(server, "compute")
    def plain(value):
        return value

    @perfwatch.handler(server, "compute")
    def generator(count):
        yield from range(count)
        return "done"

    @perfwatch.handler(server)
    @perfwatch.stage("decode")
    async def coroutine(value):
        await asyncio.sleep(0)
        return value

    @perfwatch.handler(server)
    async def async_generator(count):
        for number in range(count):
            yield number

    async def collect():
        return [number async for number in async_generator(3)]

    assert plain(1) == 1
    assert plain.__name__ == "plain"
    assert list(generator(3)) == [0, 1, 2]
    assert asyncio.run(coroutine(2)) == 2
    assert asyncio.run(collect()) == [0, 1, 2]
    half = generator(3)
    next(half)
    half.close()
    seen = flushed()
    assert (seen.counts["completed"], seen.counts["cancelled"]) == (4, 1)
    assert seen.values["stage.duration/decode"] == 1


def test_a_decorator_without_parentheses_leaves_the_function_as_it_was(caplog):
    @perfwatch.stage
    def staged(left, right=1):
        return left + right

    @perfwatch.handler
    def handled(value):
        return value

    assert (staged(1, right=2), staged(1), handled(4)) == (3, 2, 4)


def test_nothing_raises_whatever_is_passed(server, flushed, caplog):
    histogram = server.histogram("odd")
    for value in (None, "x", -1, math.nan, math.inf, object(), b"1"):
        histogram.record(value)
        server.dispatch(value, value)
    for name in (None, 3, b"compute", "\udc80", "x" * 1000):
        with server.request(name) as request, request.stage(name):
            request.enter(name)
            request.token(name)
            request.prompt_tokens(name)
            request.generated_tokens(name)
            request.traceparent(name)
            with perfwatch.stage(name):
                pass
    server.histogram(None, None).record(1)
    server.histogram("tokens", "furlong").record(1)
    with server.histogram("tokens").time():
        pass
    perfwatch.Server(None, instance=3, config=[1], socket=object(), max_batch_size="x", flush_at_exit=False).close()
    seen = flushed()
    assert seen.counts["completed"] == 5
    assert seen.values["odd"] == seen.counts["dispatches"] == 0
    assert "another value was ignored" in caplog.text
    assert len(caplog.records) == len({record.getMessage() for record in caplog.records}), "each is told once"


def test_a_logger_that_raises_does_not_reach_the_server(server, monkeypatch):
    def broken(*_):
        raise RuntimeError("disk full")

    import logging

    monkeypatch.setattr(logging.getLogger("perfwatch"), "warning", broken)
    server.histogram("quiet", "an unheard-of unit").record(1)


def test_settings_reach_the_agent(agent):
    config = {"max_batch": 8, "model": "resnet"}
    with perfwatch.Server("settings", instance="two", config=config, socket=agent.path, flush_at_exit=False) as server:
        server.request().finish()
        assert server.flush()
        assert server.status == "connected"
    assert server.close() is False, "a second close does nothing"
    seen = agent.services["settings"]
    assert seen.config == {b"max_batch": b"8", b"model": b"resnet"}
    assert seen.instances == {b"two"}


def test_without_an_agent_it_only_says_so(tmp_path):
    with perfwatch.Server("alone", socket=tmp_path / "none.sock", flush_at_exit=False) as server:
        server.request().finish()
        assert server.flush() is False
        assert server.status == "no agent"


def test_what_is_no_server_is_told_and_does_not_raise(caplog, monkeypatch, tmp_path):
    monkeypatch.setenv("PERFWATCH_SOCKET", str(tmp_path / "none.sock"))

    @perfwatch.handler(None)
    def work():
        return 1

    assert work() == 1
    assert list(perfwatch.DataLoader([1, 2], None)) == [1, 2]
    assert list(perfwatch.WSGIMiddleware(lambda environ, start: [b"x"], "no server")({}, print)) == [b"x"]
    assert "no perfwatch.Server" in caplog.text


def test_an_absent_agent_costs_a_bounded_amount_of_memory(tmp_path):
    code = f"""
import perfwatch

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

server = perfwatch.Server("alone", socket={str(tmp_path / "none.sock")!r})
histogram = server.histogram("values", "{{item}}")

def work(times):
    for number in range(times):
        with server.request("queue") as request:
            with request.stage("mine"):
                request.token()
            histogram.record(number)
        if number % 3 == 0:
            server.request().fail(f"kind {{number}}")
            server.request()

work(30_000)
before = resident()
work(100_000)
assert resident() - before < 512 * 1024, resident() - before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_it_travels_to_a_process_that_was_spawned(agent):
    code = f"""
import copy, multiprocessing, perfwatch

def work(server, histogram):
    server.request().finish()
    histogram.record(3)

if __name__ == "__main__":
    server = perfwatch.Server("spawning", max_batch_size=4, socket={agent.path!r}, config={{"a": 1}})
    assert copy.deepcopy({{"server": server}})["server"] is server
    children = []
    for _ in range(2):
        child = multiprocessing.get_context("spawn").Process(target=work, args=(server, server.histogram("x", "{{item}}")))
        child.start()
        children.append(child)
    for child in children:
        child.join()
        assert child.exitcode == 0
"""
    script = os.path.join(os.path.dirname(agent.path), "spawning.py")
    with open(script, "w") as file:
        file.write(code)
    subprocess.run([sys.executable, script], check=True, timeout=60)
    seen = agent.services["spawning"]
    assert (seen.counts["completed"], seen.values["x"], seen.sums["x"]) == (2, 2, 6)
    assert seen.config == {b"a": b"1"}


def test_importing_it_imports_nothing_large():
    code = """
import os, sys
before = set(sys.modules)
import perfwatch
more = {name for name in set(sys.modules) - before if name.split(".")[0] != "perfwatch"}
assert more <= {"__future__", "contextvars", "_contextvars"}, more
assert perfwatch.DataLoader and "cached" in dir(perfwatch)
assert set(perfwatch.__all__) <= set(dir(perfwatch))
for name in perfwatch.__all__:
    assert name == "__version__" or getattr(perfwatch, name).__doc__, name
"""
    subprocess.run([sys.executable, "-S", "-c", "import sys; sys.path[:0] = " + repr(sys.path) + code], check=True, timeout=60)


def test_disabled_it_is_nothing():
    code = """
import perfwatch
server = perfwatch.Server("off")
with server.request("compute"), perfwatch.stage("decode"):
    server.histogram("x").record(1)
    server.dispatch(1)
assert server.status == "disabled" and server.flush() is False
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PERFWATCH_DISABLED": "1"}, check=True, timeout=60)


def test_what_is_left_is_sent_at_exit(agent):
    code = f"""
import perfwatch
server = perfwatch.Server("leaving", socket={agent.path!r})
for _ in range(7):
    server.request().finish()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert agent.services["leaving"].counts["completed"] == 7, "the process ended after the receipt"


def test_children_of_a_fork_count_for_themselves(agent):
    code = f"""
import os, time, perfwatch
server = perfwatch.Server("forking", socket={agent.path!r})
histogram = server.histogram("values", "{{item}}")
assert server.flush()
server.request().finish()
children = []
for number in range(4):
    child = os.fork()
    if child == 0:
        began = time.monotonic()
        if number < 3:  # the last one never uses it, and does not wait for anybody at its end
            for _ in range(10):
                with server.request("compute"):
                    histogram.record(number)
            assert server.close()
        else:
            server.close()
            assert time.monotonic() - began < 2
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
server.request().finish()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    seen = agent.services["forking"]
    assert seen.counts["completed"] == 2 + 30
    assert (seen.values["values"], seen.sums["values"]) == (30, 30)
    assert len(seen.sessions) == 4
