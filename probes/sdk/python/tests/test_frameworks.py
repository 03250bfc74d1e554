"""The examples under the real frameworks; what the agent has equals what the client counted."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from conftest import EXAMPLES


def drive(port, paths):
    """Requests every path, eight at once; returns how many answers had which status."""
    # A server closes the connection of a request that broke it; one kept alive might be the next request's.
    limits = httpx.Limits(max_keepalive_connections=0)
    address = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=address, limits=limits, timeout=60) as client, ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(lambda path: client.get(path).status_code, paths))


def equals(seen, completed, failed):
    """The connection that looked whether the server listens sent no request, so all there is came from `drive`."""
    return (seen.counts["completed"], seen.counts["failed"]) == (completed, failed)


def check_stages(seen):
    whole = sum(seen.sums[name] for name in seen.sums if name.startswith("stage.duration/"))
    assert whole == seen.sums["request.duration"], "a request is in one stage at any instant"


PATHS = ["/predict/cat", "/predict/horse", "/threads/cat", "/stream/5", "/refuse", "/break", "/nowhere"] * 20


def test_fastapi_under_uvicorn(agent, start, port):
    start(EXAMPLES / "fastapi_server.py", port)
    answers = drive(port, PATHS)
    assert answers == {200: 80, 503: 20, 500: 20, 404: 20}
    seen = agent.wait("fastapi-example", lambda seen: seen.ended == 140)
    assert equals(seen, 100, 40), seen.counts
    assert seen.counts["abandoned"] == 0
    assert seen.errors == {"503": 20, "ValueError": 20}
    assert seen.counts["cache_hits"] + seen.counts["cache_misses"] == 40, "each prediction looked the cache up"
    assert seen.counts["cache_misses"] == seen.counts["dispatches"], "who missed computed"
    assert seen.values["stage.duration/compute"] == seen.counts["dispatches"] + 20, "the threads computed too"
    assert seen.values["stage.duration/decode"] == 20
    assert seen.sums["stage.duration/decode"] >= 20 * 5 * 1_000_000, "nanoseconds"
    assert seen.values["stage.duration/send"] == 120, "Starlette answers for what breaks, outside all middleware"
    check_stages(seen)


def test_fastapi_with_uvicorn_workers(agent, start, port):
    start("-m", "uvicorn", "--workers", 2, "--port", port, "--log-level", "warning", "fastapi_server:app")
    answers = drive(port, PATHS)
    assert answers == {200: 80, 503: 20, 500: 20, 404: 20}
    seen = agent.wait("fastapi-example", lambda seen: seen.ended == 140)
    assert equals(seen, 100, 40), seen.counts
    assert len(seen.instances) == 1, "workers of one parent are one server"


def test_a_client_that_leaves_is_counted_as_such(agent, start, port):
    start(EXAMPLES / "fastapi_server.py", port)
    with httpx.stream("GET", f"http://127.0.0.1:{port}/stream/1000000", timeout=60) as response:
        next(response.iter_raw())
    seen = agent.wait("fastapi-example", lambda seen: seen.ended == 1)
    assert seen.counts["cancelled"] == 1, seen.counts


@pytest.mark.parametrize("how", [["--preload"], [], ["--preload", "-k", "gthread", "--threads", "4"]])
def test_flask_under_gunicorn(agent, start, port, how):
    start("-m", "gunicorn", *how, "-w", 2, "-b", f"127.0.0.1:{port}", "--log-level", "error", "flask_server:app")
    paths = [path for path in PATHS if not path.startswith("/threads")]
    answers = drive(port, paths)
    assert answers == {200: 60, 503: 20, 500: 20, 404: 20}
    seen = agent.wait("flask-example", lambda seen: seen.ended == 120)
    assert equals(seen, 80, 40), seen.counts
    assert seen.counts["abandoned"] == 0
    assert seen.values["stage.duration/compute"] == seen.counts["dispatches"] == 40
    assert seen.errors == {"503": 20, "500": 20}, "Flask answers for what breaks"
    assert (seen.values["example.letters"], seen.sums["example.letters"]) == (40, 20 * (3 + 5))
    assert seen.values["stage.duration/decode"] == 20
    assert len(seen.instances) == 1, "workers of one parent are one server"
    check_stages(seen)


def test_grpc(agent, start, port):
    start(EXAMPLES / "grpc_server.py", port)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        predict = channel.unary_unary("/example.Model/Predict")
        generate = channel.unary_stream("/example.Model/Generate")

        def call(message):
            try:
                assert predict(message, timeout=60) == message.upper()
                return "OK"
            except grpc.RpcError as error:
                return error.code().name

        with ThreadPoolExecutor(8) as pool:
            answers = Counter(pool.map(call, [b"cat", b"refuse", b"code"] * 20))
        assert answers == {"OK": 20, "UNAVAILABLE": 20, "INTERNAL": 20}
        assert b"".join(generate(b"horse", timeout=60)) == b"horse"
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/example.Model/Nowhere")(b"", timeout=60)
    # The unknown method has no handler: it is dropped at once.
    seen = agent.wait("grpc-example", lambda seen: seen.ended == 62)
    assert equals(seen, 21, 40), seen.counts
    assert seen.counts["abandoned"] == 1
    assert seen.errors == {"UNAVAILABLE": 20, "INTERNAL": 20}
    assert seen.values["stage.duration/compute"] == seen.counts["dispatches"] == 60
    assert seen.sums["stage.duration/queue"] > 60 * 2_000_000, "eight clients wait for two threads"
    assert seen.values["stage.duration/decode"] == 1
    check_stages(seen)


def test_grpc_aio(server, flushed, port):
    import asyncio

    import grpc.aio
    import perfwatch
    import perfwatch.grpc

    async def predict(message, context):
        with perfwatch.stage("compute"):
            await asyncio.sleep(0.001)
        if message == b"refuse":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the model is not loaded")
        return message.upper()

    async def generate(message, context):
        for letter in message:
            yield bytes([letter])

    async def forever(message, context):
        await asyncio.sleep(60)

    async def main():
        listener = grpc.aio.server(interceptors=[perfwatch.grpc.AioServerInterceptor(server)])
        methods = {
            "Predict": grpc.unary_unary_rpc_method_handler(predict),
            "Generate": grpc.unary_stream_rpc_method_handler(generate),
            "Forever": grpc.unary_unary_rpc_method_handler(forever),
        }
        listener.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("example.Model", methods)])
        listener.add_insecure_port(f"127.0.0.1:{port}")
        await listener.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/example.Model/Predict")
            assert await asyncio.gather(*(call(b"cat") for _ in range(50))) == [b"CAT"] * 50
            with pytest.raises(grpc.aio.AioRpcError):
                await call(b"refuse")
            parts = [part async for part in channel.unary_stream("/example.Model/Generate")(b"horse")]
            assert parts == [b"h", b"o", b"r", b"s", b"e"]
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/example.Model/Forever")(b"", timeout=0.2)
        await listener.stop(None)

    asyncio.run(main())
    deadline = time.monotonic() + 30
    while (seen := flushed()).ended < 53 and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    assert (seen.counts["completed"], seen.counts["failed"]) == (51, 1), seen.counts
    assert seen.counts["cancelled"] == 1, "the deadline passed"
    assert seen.errors == {"UNAVAILABLE": 1}
    assert seen.values["stage.duration/compute"] == 51
