"""What web servers and applications may do to the ASGI middleware, said by hand; and FastAPI's view of decorated handlers."""

from __future__ import annotations

import asyncio

import perfwatch
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient


def run(server, app, *, send=None, receive=None, scope=None, **settings):
    """One call of an application inside the middleware; returns what it sent."""
    sent = []

    async def keep(message):
        sent.append(message)

    async def nothing():
        return {"type": "http.request", "body": b""}

    middleware = perfwatch.ASGIMiddleware(app, server, **settings)
    asyncio.run(middleware(scope or {"type": "http", "path": "/"}, receive or nothing, send or keep))
    return sent


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"well"})


def test_a_client_that_is_gone_when_the_answer_comes_is_cancelled(server, flushed):
    async def gone(message):
        raise OSError("the client went away")

    with pytest.raises(OSError, match="went away"):
        run(server, answer, send=gone)
    seen = flushed()
    assert (seen.counts["cancelled"], seen.counts["failed"]) == (1, 0)


def test_an_application_that_hears_of_it_is_cancelled(server, flushed):
    async def disconnect():
        return {"type": "http.disconnect"}

    async def app(scope, receive, send):
        assert (await receive())["type"] == "http.disconnect"
        await answer(scope, receive, send)

    run(server, app, receive=disconnect)
    assert flushed().counts["cancelled"] == 1


def test_the_end_of_an_answer_is_no_client_that_went_away(server, flushed):
    async def disconnect():
        return {"type": "http.disconnect"}

    async def app(scope, receive, send):
        await answer(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    run(server, app, receive=disconnect)
    seen = flushed()
    assert (seen.counts["completed"], seen.counts["cancelled"]) == (1, 0)


def test_what_is_skipped_and_what_is_no_request_pass(server, flushed):
    assert len(run(server, answer, scope={"type": "http", "path": "/health"}, skip=["/health"])) == 2
    assert len(run(server, answer, scope={"type": "lifespan"})) == 2
    assert len(run(server, answer, scope={"type": "websocket", "path": "/"})) == 2
    assert flushed().counts["started"] == 0


def test_one_path_to_skip_is_that_path_and_no_part_of_it(server, flushed):
    assert len(run(server, answer, scope={"type": "http", "path": "/health"}, skip="/health")) == 2
    assert len(run(server, answer, scope={"type": "http", "path": "/heal"}, skip="/health")) == 2
    wsgi = perfwatch.WSGIMiddleware(lambda environ, start: [b"x"], server, skip="/health")
    for path in ("/health", "/heal"):
        list(wsgi({"PATH_INFO": path}, lambda *_: None))
    assert perfwatch.current() is None, "although nobody closed the response"
    assert flushed().counts["started"] == 2


def test_fastapi_reads_the_parameters_of_decorated_handlers(server, flushed):
    app = FastAPI()

    # The annotations of this file are texts, which FastAPI resolves.
    @app.get("/sync/{count}")
    @perfwatch.handler(server, "compute")
    def sync(count: int, more: bool = False) -> dict[str, int]:
        return {"answer": count + more}

    @app.get("/async/{count}")
    @perfwatch.handler(server, "compute")
    @perfwatch.stage("decode")
    async def later(count: int) -> dict[str, int]:
        return {"answer": count}

    client = TestClient(app)
    assert client.get("/sync/3?more=true").json() == {"answer": 4}
    assert client.get("/async/3").json() == {"answer": 3}
    assert client.get("/async/x").status_code == 422
    seen = flushed()
    assert (seen.counts["completed"], seen.values["stage.duration/decode"]) == (2, 1)
