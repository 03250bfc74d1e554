"""The package and the real agent."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import time

import perfwatch
import pytest

BINARY = os.environ.get("PERFWATCH_BIN", "")


class OverSocket(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


@contextlib.contextmanager
def running_agent(folder):
    """A perfwatch agent with its sockets and its journal in this folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PERFWATCH_"))}
    environment |= {name: str(folder) for name in ("PERFWATCH_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    environment.pop("STATE_DIRECTORY", None)
    agent = subprocess.Popen([BINARY, "agent"], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "api.sock").exists():
            assert agent.poll() is None and time.monotonic() < deadline, "the agent does not start"
            time.sleep(0.05)
        yield agent
    finally:
        agent.terminate()
        agent.wait(30)


@pytest.mark.skipif(not BINARY, reason="PERFWATCH_BIN names no agent: test.sh builds one")
def test_a_server_and_its_requests_appear_in_the_agent(tmp_path):
    with running_agent(tmp_path) as agent:
        with perfwatch.Server("python", socket=tmp_path / "probe.sock", flush_at_exit=False) as server:
            deadline = time.monotonic() + 60
            view = None
            while view is None or view["pid"] is None or not view["latency"] or view["latency"]["count"] < 5:
                assert time.monotonic() < deadline and agent.poll() is None, view
                with server.request("queue") as request:
                    time.sleep(0.005)
                    request.enter("compute")
                    time.sleep(0.005)
                view = server_view(tmp_path / "api.sock", "python")
            assert view["kind"] == "sdk"
            assert view["pid"] == os.getpid()
            assert view["latency"]["p50_s"] >= 0.0099
            assert {"queue", "compute"} <= {stage["stage"] for stage in view["stages"]}
            assert server.flush(), "the agent's receipt"


def server_view(path, name):
    try:
        connection = OverSocket(str(path))
        connection.request("GET", "/v1/snapshot")
        snapshot = json.loads(connection.getresponse().read())
    except (OSError, ValueError):
        return None
    return next((view for view in snapshot.get("servers", ()) if view["name"] == name), None)
