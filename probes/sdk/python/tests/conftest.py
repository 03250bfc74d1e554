"""What the tests share: an agent per test, and servers in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import perfwatch
import pytest
from agent import Agent

EXAMPLES = Path(__file__).parent.parent / "examples"
# Where the frameworks' commands are.
BIN = Path(sys.executable).parent


@pytest.fixture
def agent(tmp_path):
    agent = Agent(str(tmp_path / "probe.sock"))
    yield agent
    agent.close()


@pytest.fixture
def server(agent, request):
    """A server of this process, named after the test."""
    with perfwatch.Server(request.node.name, socket=agent.path, flush_at_exit=False) as server:
        yield server


@pytest.fixture
def flushed(agent, server, request):
    """What the agent has of `server` after a flush."""

    def flush():
        assert server.flush(), server.status
        return agent.services[request.node.name]

    return flush


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(agent, port):
    """Starts a command that serves on `port` and speaks to `agent`; ends it after the test."""
    started = []

    def begin(*command, **settings):
        environment = {**os.environ, "PERFWATCH_SOCKET": agent.path, "PYTHONPATH": str(EXAMPLES), **settings}
        environment["PATH"] = f"{BIN}:{environment['PATH']}"
        # A group of its own: not every framework ends its workers when it is told to end.
        process = subprocess.Popen([sys.executable, *map(str, command)], env=environment, start_new_session=True)
        started.append(process)
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not listen"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return process
            except OSError:
                time.sleep(0.05)

    yield begin
    for process in started:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
