#!/usr/bin/env python3
"""What the agent costs, side by side with Debian's prometheus-node-exporter scraped each second.

    cargo build --release && python3 tests/peers/agent_cost.py [--seconds 60] [--windows 3]

All run at the same time on the same machine, so that noise hits both. CPU is what the scheduler gave all threads
(/proc/PID/task/*/schedstat, nanoseconds; /proc/PID/stat counts in 10 ms, which is too coarse here), in percent of one
core; RSS and RssAnon are from /proc/PID/status at the end of the last window. The time to the first sample is from exec
to the first answer that carries the machine's memory, median of all starts; rates follow with the first tick.
Needs Python 3 and, for the peer, Debian's package mirror; without it prints `skipped: …` and measures the agent alone.
"""

import argparse
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
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


def start_agent(folder, journal):
    """Keeps its sockets, and its journal if it is to have one, in this folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PERFWATCH_"))}
    env.pop("STATE_DIRECTORY", None)
    env.update(PERFWATCH_RUNTIME_DIR=folder, XDG_STATE_HOME=folder, XDG_CONFIG_HOME=folder)
    env["PERFWATCH_JOURNAL_MODE"] = journal
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


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=int, default=60, help="length of a window (default 60)")
    arguments.add_argument("--windows", type=int, default=3, help="how many windows (default 3)")
    arguments.add_argument("--starts", type=int, default=20, help="how many starts to time (default 20)")
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
    finally:
        for process in running.values():
            stop(process)
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
