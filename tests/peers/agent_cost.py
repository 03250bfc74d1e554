#!/usr/bin/env python3
"""What the agent costs, side by side with Debian's prometheus-node-exporter scraped each second.

    cargo build --release && cargo build --release -p perfwatch-tests --example fleet --example host_set
    python3 tests/peers/agent_cost.py [--seconds 60] [--windows 3] [--everything]

All run at the same time on the same machine, so that noise hits both. CPU is what the scheduler gave all threads
(/proc/PID/task/*/schedstat, nanoseconds; /proc/PID/stat counts in 10 ms, which is too coarse here), in percent of one
core; RSS and RssAnon are from /proc/PID/status at the end of the last window. The time to the first sample is from exec
to the first answer that carries the machine's memory, median of all starts; rates follow with the first tick.

With `--everything` a second table follows. The agent then has all it can have without a GPU: 300 processes on the machine,
eight instrumented servers that flush each second (tests/peers/fleet.rs), a journal on disk, export at full detail every
ten seconds to a receiver that accepts everything, and a scrape of `/metrics` each second; beside it node_exporter with
`--collector.processes`, scraped as often. Wake-ups are voluntary context switches of all threads. `host set at 10 Hz`
reads the machine's files ten times a second and does nothing else (tests/peers/host_set.rs).
Needs Python 3 and, for the peer, Debian's package mirror; without it prints `skipped: …` and measures the agent alone.
"""

import argparse
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/perfwatch"
PEERS = ROOT / "target/peers"


def node_exporter():
    """Path of the unpacked peer, or None with a line that says why."""
    binary = PEERS / "usr/bin/prometheus-node-exporter"
    if binary.exists():
        return binary
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        print("skipped: prometheus-node-exporter comes as a Debian package, and this is no Debian")
        return None
    PEERS.mkdir(parents=True, exist_ok=True)
    got = subprocess.run(["apt-get", "download", "prometheus-node-exporter"], cwd=PEERS, capture_output=True, text=True)
    debs = sorted(PEERS.glob("prometheus-node-exporter_*.deb"))
    if got.returncode != 0 or not debs:
        print("skipped: prometheus-node-exporter cannot be downloaded:", got.stderr.strip().splitlines()[-1:])
        return None
    subprocess.run(["dpkg", "-x", str(debs[-1]), str(PEERS)], check=True)
    return binary


def cpu_seconds(pid):
    threads = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def memory(pid):
    status = dict(
        line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return [int(status[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon")]


def unix_get(path, target):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: perfwatch\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        return answer


def start_agent(folder, journal, **more):
    """Keeps its sockets, and its journal if it is to have one, in this folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PERFWATCH_"))}
    env.pop("STATE_DIRECTORY", None)
    env.update(PERFWATCH_RUNTIME_DIR=folder, XDG_STATE_HOME=folder, XDG_CONFIG_HOME=folder)
    env["PERFWATCH_JOURNAL_MODE"] = journal
    env.update(more)
    return subprocess.Popen([str(BINARY), "agent"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start_peer(binary, port):
    return subprocess.Popen(
        [str(binary), f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def stop(process):
    process.terminate()
    process.wait(timeout=10)


def first_sample(start, ask):
    begin = time.perf_counter()
    process = start()
    try:
        while time.perf_counter() - begin < 10:
            try:
                if ask():
                    return (time.perf_counter() - begin) * 1000
            except OSError:
                time.sleep(0.0005)
        raise SystemExit("no sample within 10 s")
    finally:
        stop(process)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def scrape(port):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read()


class Accepting(http.server.BaseHTTPRequestHandler):
    """An OTLP receiver that takes everything and answers that all of it was accepted."""

    protocol_version = "HTTP/1.1"
    bytes = requests = 0

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        Accepting.bytes += length
        Accepting.requests += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def wake_ups(pid):
    counts = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        counts += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.M)[1])
    return counts


def by_thread(pid):
    """CPU seconds and voluntary context switches of the threads of each name."""
    threads = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        switches = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)[1]
        cpu, count = threads.get(name := (task / "comm").read_text().strip(), (0, 0))
        threads[name] = cpu + int((task / "schedstat").read_text().split()[0]) / 1e9, count + int(switches)
    return threads


def processes():
    return sum(name.isdigit() for name in os.listdir("/proc"))


def everything(options, peer_binary, scratch):
    """Measures goals C2 and C3 and prints their table."""
    examples = ROOT / "target/release/examples"
    fleet, host_set = examples / "fleet", examples / "host_set"
    for needed in (fleet, host_set):
        if not needed.exists():
            sys.exit(f"{needed} does not exist: run `cargo build --release -p perfwatch-tests --example {needed.name}`")
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Accepting)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    folder = pathlib.Path(scratch, "everything")
    folder.mkdir()
    more = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}",
        "OTEL_METRIC_EXPORT_INTERVAL": "10000",
        "PERFWATCH_OTLP_LEVEL": "full",
    }
    running, others = {}, []
    quiet = dict(stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    api = f"{folder}/api.sock"
    try:
        agent = running["perfwatch, everything on"] = start_agent(folder.as_posix(), "disk", **more)
        if peer_binary:
            port = free_port()
            listen = [str(peer_binary), f"--web.listen-address=127.0.0.1:{port}", "--collector.processes"]
            running["node_exporter, processes too"] = subprocess.Popen(
                listen, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        running["host set at 10 Hz"] = subprocess.Popen([str(host_set), "10"], **quiet)
        deadline = time.monotonic() + 10
        while not os.path.exists(api) and time.monotonic() < deadline:
            time.sleep(0.05)
        for at in range(8):
            env = dict(os.environ, PERFWATCH_RUNTIME_DIR=folder.as_posix(), OTEL_SERVICE_NAME=f"fleet-{at}")
            others.append(subprocess.Popen([str(fleet), "load", "200"], env=env, **quiet))
        others += [subprocess.Popen(["sleep", "3600"]) for _ in range(max(0, 300 - processes()))]
        time.sleep(12)
        shares = {name: [] for name in running}
        wakes, sent = {name: wake_ups(process.pid) for name, process in running.items()}, Accepting.bytes
        begin, threads = time.monotonic(), by_thread(agent.pid)
        for _ in range(options.windows):
            before = {name: cpu_seconds(process.pid) for name, process in running.items()}
            began = time.monotonic()
            while time.monotonic() - began < options.seconds:
                page = unix_get(api, "/metrics")
                if peer_binary:
                    scrape(port)
                time.sleep(1)
            took = time.monotonic() - began
            for name, process in running.items():
                shares[name].append((cpu_seconds(process.pid) - before[name]) / took * 100)
        whole = time.monotonic() - begin
        wakes = {name: (wake_ups(process.pid) - wakes[name]) / whole for name, process in running.items()}
        rows = sum(1 for line in page.decode(errors="replace").splitlines() if re.match(r"[a-z_]+(\{| )", line))
        print(f"\n{processes()} processes, 8 instrumented servers; /metrics has {rows} lines of values;", end=" ")
        print(f"{(Accepting.bytes - sent) / whole * 60 / 1e3:.0f} KB/min exported in {Accepting.requests} requests")
        print("| | CPU, % of a core (median of windows) | windows | RSS MiB | RssAnon MiB | wake-ups/s |")
        print("|---|---|---|---|---|---|")
        for name, process in running.items():
            rss, anon = memory(process.pid)
            windows = " ".join(f"{share:.3f}" for share in shares[name])
            median = statistics.median(shares[name])
            print(f"| {name} | {median:.3f} | {windows} | {rss:.1f} | {anon:.1f} | {wakes[name]:.1f} |")
        print("\nthreads, % of a core (wake-ups/s):", end=" ")
        parts = {
            name: (cpu - threads.get(name, (0, 0))[0], count - threads.get(name, (0, 0))[1])
            for name, (cpu, count) in by_thread(agent.pid).items()
        }
        print(", ".join(f"{name} {cpu / whole * 100:.3f} ({count / whole:.1f})" for name, (cpu, count) in parts.items()))
        probes = sorted(
            ((probe["mean_s"] * 1e6, probe["every_s"], probe["name"]) for probe in agent_view(api)["probes"]), reverse=True
        )
        print("\nprobes, mean CPU µs a run (every s):", ", ".join(f"{n} {us:.0f} ({s:.0f})" for us, s, n in probes))
    finally:
        receiver.shutdown()
        for process in [*running.values(), *others]:
            process.terminate()
        for process in [*running.values(), *others]:
            process.wait(timeout=20)


def agent_view(api):
    _, body = unix_get(api, "/v1/snapshot").split(b"\r\n\r\n", 1)
    return json.loads(body)["agent"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=int, default=60, help="length of a window (default 60)")
    arguments.add_argument("--windows", type=int, default=3, help="how many windows (default 3)")
    arguments.add_argument("--starts", type=int, default=20, help="how many starts to time (default 20)")
    arguments.add_argument("--everything", action="store_true", help="also the agent with all it can have, and 10 Hz")
    options = arguments.parse_args()
    if not BINARY.exists():
        sys.exit(f"{BINARY} does not exist: run `cargo build --release` first")
    peer_binary, port = node_exporter(), free_port()
    scratch, running = tempfile.mkdtemp(prefix="perfwatch-cost-"), {}
    folder = lambda name: pathlib.Path(scratch, name.replace(" ", "-")).as_posix()
    agents = {"perfwatch": "disk", "perfwatch, no journal": "memory"}
    try:
        starts = {name: [] for name in [*agents, "node_exporter"]}
        for name in agents:
            pathlib.Path(folder(name)).mkdir()
        for _ in range(options.starts):
            for name, journal in agents.items():
                api = f"{folder(name)}/api.sock"
                ready = lambda: re.search(rb'"memory_used_bytes":\d', unix_get(api, "/v1/snapshot"))
                starts[name].append(first_sample(lambda: start_agent(folder(name), journal), ready))
            if peer_binary:
                peer = lambda: start_peer(peer_binary, port)
                starts["node_exporter"].append(first_sample(peer, lambda: scrape(port)))
        for name, journal in agents.items():
            running[name] = start_agent(folder(name), journal)
        if peer_binary:
            running["node_exporter"] = start_peer(peer_binary, port)
        time.sleep(5)
        shares = {name: [] for name in running}
        for _ in range(options.windows):
            before = {name: cpu_seconds(process.pid) for name, process in running.items()}
            began = time.monotonic()
            while time.monotonic() - began < options.seconds:
                if peer_binary:
                    scrape(port)
                time.sleep(1)
            took = time.monotonic() - began
            for name, process in running.items():
                shares[name].append((cpu_seconds(process.pid) - before[name]) / took * 100)
        print("| | CPU, % of a core (median of windows) | windows | RSS MiB | RssAnon MiB | binary MB | first sample ms |")
        print("|---|---|---|---|---|---|---|")
        for name, process in running.items():
            rss, anon = memory(process.pid)
            windows = " ".join(f"{share:.3f}" for share in shares[name])
            size = (peer_binary if name == "node_exporter" else BINARY).stat().st_size / 1e6
            first = statistics.median(starts[name])
            median = statistics.median(shares[name])
            print(f"| {name} | {median:.3f} | {windows} | {rss:.1f} | {anon:.1f} | {size:.1f} | {first:.1f} |")
        if options.everything:
            for name in list(running):
                stop(running.pop(name))
            everything(options, peer_binary, scratch)
    finally:
        for process in running.values():
            stop(process)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
