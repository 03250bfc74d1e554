#!/usr/bin/env python3
"""What a fleet of instrumented processes costs the agent, and how long a request takes to be seen.

    cargo build --release && cargo build --release -p perfwatch-tests --example fleet
    python3 tests/peers/fleet_cost.py [--processes 100 1000] [--seconds 30] [--windows 3]

Every process is real and links the SDK (tests/peers/fleet.rs): each second it records eight histograms, four of them of
two hundred values, and flushes. `--servers N` makes them the workers of N servers (default: a tenth of the processes, as
gunicorn or uvicorn would; 0: each process a server of its own). Every number of processes is measured with the journal
and without it, each in a fresh agent; beside it stands the same agent before anybody connected.

CPU is what the scheduler gave all threads of the agent (/proc/PID/task/*/schedstat, nanoseconds), in percent of one core,
median of windows; a flush's share is the difference to the idle agent over the flushes. What the probes take of it to read
/proc of a thousand processes is by the agent's own account (agent.probes of /v1/snapshot), wall time of their samples. RSS and RssAnon are from
/proc/PID/status at the end. The CPU of a process is all that it used in a window, recording and waking up included: an upper
bound of what its flush costs. The size of a flush is counted by a relay between one process and the agent.

A request is visible when the line of /v1/stream that counts it has been read; the process that finishes it reads the same
monotonic clock. Whole seconds are closed half a second later, so that half a second to one and a half is the design.

Needs Linux, Python 3 and a limit of open files above the number of processes. Everything that it starts ends with it.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/perfwatch"
FLEET = ROOT / "target/release/examples/fleet"


def cpu_seconds(pid):
    """CPU of all threads that live. Those that ended take theirs along; neither side ends threads in a window."""
    threads = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def memory(pid):
    status = dict(
        line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return [int(status[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon")]


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PERFWATCH_"))}


class Agent:
    def __init__(self, journal):
        self.dir = tempfile.mkdtemp(prefix="perfwatch-fleet-")
        self.api = f"{self.dir}/api.sock"
        env = clean_environment()
        env.update(PERFWATCH_RUNTIME_DIR=self.dir, XDG_STATE_HOME=f"{self.dir}/state", XDG_CONFIG_HOME=self.dir)
        env.pop("STATE_DIRECTORY", None)
        env["PERFWATCH_JOURNAL_MODE"] = "disk" if journal else "memory"
        self.log = open(f"{self.dir}/log", "w+")
        self.process = subprocess.Popen([BINARY, "agent"], env=env, stdout=self.log, stderr=self.log)
        self.pid = self.process.pid
        deadline = time.monotonic() + 20
        while True:
            try:
                self.get("/v1/snapshot")
                return
            except (OSError, ValueError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    sys.exit("the agent does not come up")
                time.sleep(0.05)

    def get(self, target):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(self.api)
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: perfwatch\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while chunk := client.recv(1 << 20):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise ValueError(head.decode())
        return json.loads(body)

    def journal_bytes(self):
        files = pathlib.Path(self.dir, "state").rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.seek(0)
        complaints = [line.rstrip() for line in self.log if " WARN " in line or " ERROR " in line]
        for line in complaints[:3]:
            print(f"the agent says: {line}", file=sys.stderr)
        if len(complaints) > 3:
            print(f"the agent says: … and {len(complaints) - 3} lines more", file=sys.stderr)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Fleet:
    """Processes that end when this one does: they share one pipe as standard input, and only we can write to it."""

    def __init__(self, agent):
        self.agent, self.members = agent, []
        self.read_end, self.write_end = os.pipe()

    def start(self, mode, service, instance, stdout=subprocess.DEVNULL, socket_path=None):
        env = clean_environment()
        env.update(OTEL_SERVICE_NAME=service, PERFWATCH_INSTANCE=instance, PERFWATCH_RUNTIME_DIR=self.agent.dir)
        if socket_path:
            env["PERFWATCH_SOCKET"] = socket_path
        command = [str(FLEET), *mode]
        member = subprocess.Popen(command, env=env, stdin=self.read_end, stdout=stdout, stderr=subprocess.DEVNULL)
        self.members.append(member)
        return member

    def cpu_seconds(self):
        return sum(cpu_seconds(member.pid) for member in self.members)

    def stop(self):
        os.close(self.write_end)
        for member in self.members:
            try:
                member.wait(timeout=20)
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()
        os.close(self.read_end)


class Relay:
    """Passes one connection on to the agent and notes the size of each message towards it."""

    def __init__(self, agent):
        self.path, self.target = f"{agent.dir}/relay.sock", f"{agent.dir}/probe.sock"
        self.sizes, self.pending = [], bytearray()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        client, _ = self.listener.accept()
        agent = socket.socket(socket.AF_UNIX)
        agent.connect(self.target)
        threading.Thread(target=self.copy, args=(agent, client, None), daemon=True).start()
        self.copy(client, agent, self.note)

    def copy(self, source, sink, note):
        try:
            while chunk := source.recv(1 << 16):
                if note:
                    note(chunk)
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # Either side has ended.

    def note(self, chunk):
        """Messages are preceded by their length as a varint."""
        self.pending += chunk
        while True:
            length = shift = at = 0
            while at < len(self.pending) and self.pending[at] & 0x80:
                length |= (self.pending[at] & 0x7F) << shift
                shift, at = shift + 7, at + 1
            if at == len(self.pending):
                return
            length |= self.pending[at] << shift
            if len(self.pending) < at + 1 + length:
                return
            self.sizes.append(at + 1 + length)
            del self.pending[: at + 1 + length]

    def flush_sizes(self):
        return self.sizes[1:]  # The first is the handshake.


def connected(agent):
    servers = agent.get("/v1/snapshot")["servers"]
    return sum(len(server["pids"]) for server in servers if server["live"] and server["name"] == "fleet")


def wait_until_connected(agent, fleet, count):
    deadline = time.monotonic() + 60 + count / 10
    while (seen := connected(agent)) != count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {seen} of {count} processes are connected")
        if any(member.poll() is not None for member in fleet.members):
            raise RuntimeError("a process of the fleet has ended")
        time.sleep(1)


def windows(agent, fleet, seconds, count):
    """Percent of a core of the agent per window, and CPU seconds per second of a member."""
    shares, members = [], []
    for _ in range(count):
        began, before, theirs = time.monotonic(), cpu_seconds(agent.pid), fleet.cpu_seconds()
        time.sleep(seconds)
        took = time.monotonic() - began
        shares.append((cpu_seconds(agent.pid) - before) / took * 100)
        if fleet.members:
            members.append((fleet.cpu_seconds() - theirs) / took / len(fleet.members))
    return shares, members


class Stream:
    """When /v1/stream counted the n-th request of a server."""

    def __init__(self, agent, service):
        self.service, self.counted = service, []
        self.client = socket.socket(socket.AF_UNIX)
        self.client.connect(agent.api)
        self.client.sendall(b"GET /v1/stream HTTP/1.0\r\nHost: perfwatch\r\n\r\n")
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with self.client.makefile("rb") as lines:
            for line in lines:
                now = time.monotonic_ns()
                if not line.startswith(b"{"):
                    continue
                for server in json.loads(line)["servers"]:
                    if server["name"] == self.service:
                        ended = sum(count for _, count in server.get("latency_buckets") or [])
                        self.counted.extend([now] * ended)


def delays(agent, fleet, seconds):
    """Milliseconds from finish() to the line that counts it, per request, in order of the requests."""
    stream = Stream(agent, "paced")
    time.sleep(2)
    paced = fleet.start(["paced", "50"], "paced", "1", stdout=subprocess.PIPE)
    finished = []
    reader = threading.Thread(target=lambda: finished.extend(int(line) for line in paced.stdout), daemon=True)
    reader.start()
    time.sleep(seconds)
    # What was finished before the end is counted within the next seconds.
    finished_by_now = list(finished)
    time.sleep(4)
    seen = stream.counted[: len(finished_by_now)]
    if len(seen) < len(finished_by_now):
        raise RuntimeError(f"{len(finished_by_now)} requests finished and {len(seen)} were seen")
    result = [(at - then) / 1e6 for then, at in zip(finished_by_now, seen)]
    if min(result) < 0:
        raise RuntimeError("a request was seen before it finished: the count is off")
    return result


def measure(options, processes, journal):
    agent, fleet = Agent(journal), None
    try:
        fleet = Fleet(agent)
        time.sleep(options.settle)
        idle, _ = windows(agent, fleet, options.seconds, 1)
        servers = options.servers if options.servers is not None else max(1, processes // 10)
        relay = Relay(agent)
        for number in range(processes):
            instance = str(number % servers if servers else number)
            path = relay.path if number == 0 else None
            fleet.start(["load", str(options.values)], "fleet", instance, socket_path=path)
        wait_until_connected(agent, fleet, processes)
        time.sleep(options.settle)
        grown = agent.journal_bytes()
        began = time.monotonic()
        shares, members = windows(agent, fleet, options.seconds, options.windows)
        grown, took = agent.journal_bytes() - grown, time.monotonic() - began
        sizes = relay.flush_sizes()[2:]
        rss, anon = memory(agent.pid)
        still = connected(agent)
        loss = agent.get("/v1/snapshot")["agent"]
        seen = sorted(delays(agent, fleet, options.delay)) if options.delay else []
        state = agent.get("/v1/snapshot")["agent"]
        probes = sum(probe["mean_s"] / probe["every_s"] for probe in state["probes"]) * 100
    finally:
        if fleet:
            fleet.stop()
        agent.stop()
    share = statistics.median(shares)
    row = [
        f"{processes:,} in {servers or processes:,} servers",
        "yes" if journal else "no",
        f"{share:.2f}",
        " ".join(f"{one:.2f}" for one in shares),
        f"{probes:.2f}",
        f"{idle[0]:.2f}",
        f"{(share - idle[0]) * 1e4 / processes:.1f}",
        f"{rss:.0f} / {anon:.0f}",
        f"{statistics.median(sizes):,.0f}",
        f"{statistics.median(members) * 1e6:.0f}",
        f"{grown / took / 1024:.0f}" if journal else "–",
        f"{statistics.median(seen):.0f} / {seen[len(seen) * 99 // 100]:.0f} ms of {len(seen)}" if seen else "–",
        f"{processes - still} / {loss['dropped']} / {loss['ticks_missed']}",
    ]
    return "| " + " | ".join(row) + " |"


HEADS = [
    "processes",
    "journal",
    "agent, % of a core",
    "windows",
    "of it probes",
    "idle agent, %",
    "µs per flush",
    "RSS / anonymous, MiB",
    "bytes per flush",
    "µs per process and second",
    "journal, KiB/s",
    "finished → visible, median / p99",
    "silent / flushes late or dropped / ticks missed",
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--processes", type=int, nargs="+", default=[100, 1000], help="sizes of the fleet")
    arguments.add_argument("--servers", type=int, help="how many servers they are workers of; 0: each is one")
    arguments.add_argument("--values", type=int, default=200, help="values per own histogram and second (default 200)")
    arguments.add_argument("--seconds", type=int, default=30, help="length of a window (default 30)")
    arguments.add_argument("--windows", type=int, default=3, help="how many windows (default 3)")
    arguments.add_argument("--settle", type=int, default=12, help="seconds before the windows (default 12)")
    arguments.add_argument("--delay", type=int, default=60, help="seconds of timed requests, 0: none (default 60)")
    options = arguments.parse_args()
    for binary in (BINARY, FLEET):
        if not binary.exists():
            sys.exit(f"{binary} does not exist: see --help for how to build it")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < max(options.processes) + 100:
        sys.exit(f"at most {hard} files may be open here, which is too few for {max(options.processes)} processes")
    print("| " + " | ".join(HEADS) + " |")
    print("|---" * len(HEADS) + "|", flush=True)
    for processes in options.processes:
        for journal in (False, True):
            print(measure(options, processes, journal), flush=True)


if __name__ == "__main__":
    main()
