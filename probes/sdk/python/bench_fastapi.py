"""What the SDK costs a FastAPI server: throughput, p99 and CPU time per request, with and without it, in pairs.

    pip install fastapi uvicorn, and the wheel of `maturin build --release`
    PERFWATCH_BIN=perfwatch python bench_fastapi.py [--quick]

Prints JSON. Two servers run, under uvicorn on loopback, each with one worker; this process asks them over 8 connections, as
fast as each is answered, one server at a time in short windows: A B, B A, A B and so on. The ratio of each pair (with / without)
is one observation; printed is the geometric mean with its 95 % interval (Student's t). The handler does nothing but what the SDK
is told of: the middleware, two stages, a batch, a histogram and a trace id per request. A model that computes makes every ratio
better. With PERFWATCH_BIN an agent takes what is recorded; without, nobody does.
"""

import asyncio
import json
import math
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUICK = "--quick" in sys.argv
PAIRS, SECONDS, CONNECTIONS = (3, 0.5, 8) if QUICK else (30, 3.0, 8)
# Two-sided 95 % of Student's t by degrees of freedom, up to what is used here.
STUDENT = {2: 4.303, 29: 2.045}
REQUEST = (
    b"GET /predict HTTP/1.1\r\nhost: localhost\r\n"
    b"traceparent: 00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\r\n\r\n"
)


def application(observed):
    from fastapi import FastAPI

    app = FastAPI()
    if not observed:

        @app.get("/predict")
        async def predict() -> dict[str, int]:
            return {"answer": 42}

        return app

    import perfwatch

    server = perfwatch.Server("bench-fastapi", max_batch_size=1)
    length = server.histogram("bench.length", "{token}")
    app.add_middleware(perfwatch.ASGIMiddleware, server=server)

    @app.get("/predict")
    async def predict() -> dict[str, int]:
        with perfwatch.stage("preprocess"):
            length.record(7)
        with perfwatch.stage("compute"):
            server.dispatch(1)
            return {"answer": 42}

    return app


async def ask(port, until, latencies):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (began := time.perf_counter()) < until:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        assert await reader.readexactly(int(length.split(b":")[1])) == b'{"answer":42}'
        latencies.append(time.perf_counter() - began)
    writer.close()


def cpu_seconds(pid):
    """CPU time of all threads that are there."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def window(port, pid, seconds):
    """Requests per second, p99 in milliseconds and CPU time in microseconds per request."""
    latencies = []

    async def all_connections():
        until = time.perf_counter() + seconds
        await asyncio.gather(*(ask(port, until, latencies) for _ in range(CONNECTIONS)))

    used, began = cpu_seconds(pid), time.perf_counter()
    asyncio.run(all_connections())
    wall = time.perf_counter() - began
    used = cpu_seconds(pid) - used
    return {
        "requests_per_second": len(latencies) / wall,
        "p99_ms": 1000 * sorted(latencies)[math.ceil(0.99 * len(latencies)) - 1],
        "cpu_us_per_request": 1e6 * used / len(latencies),
    }


def ratio(pairs):
    """Geometric mean of with / without, and its 95 % interval."""
    logs = [math.log(observed / bare) for bare, observed in pairs]
    middle = statistics.fmean(logs)
    half = STUDENT[len(logs) - 1] * statistics.stdev(logs) / math.sqrt(len(logs))
    return {
        "ratio": round(math.exp(middle), 4),
        "interval": [round(math.exp(middle - half), 4), round(math.exp(middle + half), 4)],
        "median_without": round(statistics.median(bare for bare, _ in pairs), 3),
        "median_with": round(statistics.median(observed for _, observed in pairs), 3),
    }


def start(observed, folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PERFWATCH_SOCKET": f"{folder}/probe.sock"}
    command = [sys.executable, __file__, "serve", "with" if observed else "without", str(port)]
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process, port
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the server does not listen")


def main():
    started = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            binary = os.environ.get("PERFWATCH_BIN")
            if binary:
                own = {name: folder for name in ("PERFWATCH_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
                agent = subprocess.Popen([binary, "agent"], env={**os.environ, **own}, stderr=subprocess.DEVNULL)
                started.append(agent)
            servers = []
            for observed in (False, True):
                process, port = start(observed, folder)
                started.append(process)
                servers.append((port, process.pid))
            for server in servers:
                window(*server, SECONDS)
            seen = []
            for number in range(PAIRS):
                order = (0, 1) if number % 2 == 0 else (1, 0)
                pair = {which: window(*servers[which], SECONDS) for which in order}
                seen.append((pair[0], pair[1]))
        finally:
            for process in reversed(started):
                process.send_signal(signal.SIGTERM)
                process.wait(30)
    result = {"python": platform.python_version(), "agent": bool(binary), "pairs": PAIRS, "seconds_per_window": SECONDS}
    for name in seen[0][0]:
        result[name] = ratio([(bare[name], observed[name]) for bare, observed in seen])
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        import uvicorn

        uvicorn.run(application(sys.argv[2] == "with"), host="127.0.0.1", port=int(sys.argv[3]), log_level="error")
    else:
        main()
