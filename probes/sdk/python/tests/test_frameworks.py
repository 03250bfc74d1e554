"""The examples under the real frameworks; what the agent has equals what the client counted."""

from pathlib import Path

import httpx
import pytest
from client import check_stages, drive, equals
from conftest import EXAMPLES

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
    assert (seen.values["time_to_first_token"], seen.values["inter_token"]) == (20, 20 * 4)
    assert seen.counts["generated_tokens"] == 20 * 5
    assert seen.values["stage.duration/send"] == 120, "Starlette answers for what breaks, outside all middleware"
    check_stages(seen)


def test_fastapi_with_uvicorn_workers(agent, start, port):
    # On a busy machine a worker may need more than uvicorn's five seconds to start, and would be killed amid a request.
    patient = ["--timeout-worker-healthcheck", 60]
    start("-m", "uvicorn", "--workers", 2, *patient, "--port", port, "--log-level", "warning", "fastapi_server:app")
    answers = drive(port, PATHS)
    assert answers == {200: 80, 503: 20, 500: 20, 404: 20}
    seen = agent.wait("fastapi-example", lambda seen: seen.ended == 140)
    assert equals(seen, 100, 40), seen.counts
    assert len(seen.instances) == 1, "workers of one parent are one server"


def leave(port):
    """Reads the beginning of a stream only."""
    with httpx.stream("GET", f"http://127.0.0.1:{port}/stream/1000000", timeout=60) as response:
        next(response.iter_raw())


def test_a_client_that_leaves_is_counted_as_such(agent, start, port):
    start(EXAMPLES / "fastapi_server.py", port)
    leave(port)
    seen = agent.wait("fastapi-example", lambda seen: seen.ended == 1)
    assert seen.counts["cancelled"] == 1, seen.counts


def test_a_client_that_leaves_flask_is_counted_as_such(agent, start, port):
    start("-m", "gunicorn", "-w", 2, "-b", f"127.0.0.1:{port}", "--log-level", "error", "flask_server:app")
    leave(port)
    seen = agent.wait("flask-example", lambda seen: seen.ended == 1)
    assert seen.counts["cancelled"] == 1, seen.counts


@pytest.mark.parametrize("how", [["--preload"], []])
def test_fastapi_under_gunicorn(agent, start, port, how):
    worker = "uvicorn_worker.UvicornWorker"
    start("-m", "gunicorn", *how, "-k", worker, "-w", 2, "-b", f"127.0.0.1:{port}", "--log-level", "error", "fastapi_server:app")
    answers = drive(port, PATHS)
    assert answers == {200: 80, 503: 20, 500: 20, 404: 20}
    seen = agent.wait("fastapi-example", lambda seen: seen.ended == 140)
    assert equals(seen, 100, 40), seen.counts
    assert len(seen.instances) == 1, "workers of one parent are one server"


def test_starlette_streams_tokens_without_knowing_it(agent, start, port):
    start(Path(__file__).parent / "starlette_server.py", port)
    answers = drive(port, ["/stream", "/whole", "/health"] * 10)
    assert answers == {200: 30}
    seen = agent.wait("starlette", lambda seen: seen.ended == 20)
    assert equals(seen, 20, 0), "a health check is no request"
    assert seen.values["time_to_first_token"] == 10, "what is sent whole is no stream"
    assert seen.counts["generated_tokens"] == 10 * 7
    assert seen.values["inter_token"] == 10 * 6


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
    assert seen.values["stage.duration/decode"] == seen.values["time_to_first_token"] == 20
    assert seen.counts["generated_tokens"] == 20 * 5
    assert len(seen.instances) == 1, "workers of one parent are one server"
    check_stages(seen)
