"""The gRPC interceptors under the real grpcio; what the agent has equals what the client counted."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from client import check_stages, equals
from conftest import EXAMPLES


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
            answers = Counter(pool.map(call, [b"cat", b"refuse", b"code", b"ask"] * 20))
        assert answers == {"OK": 20, "UNAVAILABLE": 20, "INTERNAL": 20, "INVALID_ARGUMENT": 20}
        assert b"".join(generate(b"horse", timeout=60)) == b"horse"
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/example.Model/Nowhere")(b"", timeout=60)
        left = generate(b"x" * 100_000, timeout=60)
        assert next(left) == b"x"
        left.cancel()
    # The unknown method has no handler: it is dropped at once.
    seen = agent.wait("grpc-example", lambda seen: seen.ended == 83)
    assert equals(seen, 41, 40), "a bad question is answered"
    assert (seen.counts["abandoned"], seen.counts["cancelled"]) == (1, 1)
    assert seen.errors == {"UNAVAILABLE": 20, "INTERNAL": 20}
    assert seen.values["stage.duration/compute"] == seen.counts["dispatches"] == 80
    assert seen.sums["stage.duration/queue"] > 80 * 2_000_000, "eight clients wait for two threads"
    assert seen.values["stage.duration/decode"] == 1, "durations are of calls that were not given up"
    assert seen.values["time_to_first_token"] == 2
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
