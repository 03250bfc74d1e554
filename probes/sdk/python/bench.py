"""What an observation costs in Python, beside prometheus_client, opentelemetry-sdk and hdrhistogram, in one run.

    pip install prometheus-client opentelemetry-sdk hdrhistogram, and the wheel of `maturin build --release`
    python bench.py [--quick]

Prints JSON. Contestants take turns, so that a machine that slows down slows all of them; each figure is the median of the
turns, with the quartiles. Costs are CPU time of the thread; that of the empty loop, a contestant too, is subtracted. Two
threads at once are wall time per observation of both. No agent runs: recording is the same with one, a thread of its own
sends. Imports are whole processes, bare ones subtracted: wall time, and the peak of resident memory.
"""

import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from time import perf_counter_ns, thread_time_ns

import perfwatch
import prometheus_client
from hdrh.histogram import HdrHistogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

QUICK = "--quick" in sys.argv
TURNS, CALLS, IMPORTS = (3, 2_000, 3) if QUICK else (31, 50_000, 21)
# What each process imports.
MODULES = {
    "perfwatch": "import perfwatch",
    "prometheus_client": "import prometheus_client",
    "opentelemetry-sdk": "import opentelemetry.sdk.metrics",
}

STATEMENTS = {
    "loop": "pass",
    "a Python function": "nothing(value)",
    "perfwatch histogram": "record(value)",
    "prometheus_client histogram, child kept": "prometheus.observe(value)",
    "prometheus_client histogram, .labels()": "labelled.labels('llama', 'generate').observe(value)",
    "opentelemetry-sdk histogram, no attributes": "opentelemetry.record(value)",
    "opentelemetry-sdk histogram, 2 attributes": "opentelemetry.record(value, attributes)",
    "hdrhistogram": "hdr.record_value(int(value * 1e6))",
    "perfwatch timer": "with seconds.time(): pass",
    "perfwatch timer, kept": "with timer: pass",
    "prometheus_client timer, child kept": "with prometheus.time(): pass",
    "perfwatch request": "server.request('queue').finish()",
    "perfwatch request, with block": "with server.request('queue'): pass",
    "perfwatch stage entered": "running.enter('compute' if value > 0.05 else 'queue')",
    "perfwatch stage, with block": "with running.stage('compute'): pass",
    "perfwatch stage of the current request, with block": "with stage('compute'): pass",
    "perfwatch token": "running.token()",
    "perfwatch dispatch": "server.dispatch(4, 6)",
    "perfwatch cache hit": "server.cache_hit()",
}
TWO_THREADS = [
    "loop",
    "perfwatch histogram",
    "prometheus_client histogram, child kept",
    "opentelemetry-sdk histogram, 2 attributes",
]


def nothing(value):
    """What calling Python costs."""


def contestants():
    """A function of values and a clock for each statement; it returns how long the loop took."""
    # A socket that no agent listens on, so that a real one on this machine is left alone.
    server = perfwatch.Server("bench", socket=tempfile.gettempdir() + "/perfwatch-bench.none", flush_at_exit=False)
    registry = prometheus_client.CollectorRegistry()
    meters = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    seconds = server.histogram("bench")
    running = server.request()
    running.__enter__()
    names = {
        "nothing": nothing,
        "server": server,
        "seconds": seconds,
        "record": seconds.record,
        "timer": seconds.time(),
        "running": running,
        "stage": perfwatch.stage,
        "prometheus": prometheus_client.Histogram("bench_seconds", "Seconds", registry=registry),
        "labelled": prometheus_client.Histogram("labelled_seconds", "Seconds", ["model", "kind"], registry=registry),
        "opentelemetry": meters.create_histogram("bench", "s"),
        "attributes": {"model": "llama", "kind": "generate"},
        "hdr": HdrHistogram(1, 3_600_000_000, 2),
    }
    made = {}
    for title, statement in STATEMENTS.items():
        # Names are arguments, so that looking them up costs every contestant the same, and little.
        code = f"def turn(values, clock, {', '.join(names)}):\n began = clock()\n for value in values:\n  {statement}\n return clock() - began"
        scope = {}
        exec(code, scope)
        made[title] = lambda values, clock, turn=scope["turn"]: turn(values, clock, **names)
    return made


def two_threads(turn, values):
    """Wall nanoseconds until two threads are through all values."""
    ready = threading.Barrier(3)

    def work():
        ready.wait()
        turn(values, thread_time_ns)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    ready.wait()
    began = perf_counter_ns()
    for worker in workers:
        worker.join()
    return perf_counter_ns() - began


def summary(samples, base, digits=1):
    low, middle, high = statistics.quantiles(samples, n=4)
    return {"median": round(middle - base, digits), "quartiles": [round(value - base, digits) for value in (low, high)]}


def compared(samples, digits=1):
    base = statistics.median(samples.pop("loop"))
    return {title: summary(of, base, digits) for title, of in samples.items()}


def imports():
    """Milliseconds and MiB over a bare interpreter."""
    wall = {name: [] for name in ["loop", *MODULES]}
    memory = {name: [] for name in ["loop", *MODULES]}
    # Its own word: what wait4 says of a child includes what it was forked from.
    peak = "\nwith open('/proc/self/status') as status: print(*(line.split()[1] for line in status if 'VmHWM' in line))"
    for _ in range(IMPORTS):
        for name, code in [("loop", "pass"), *MODULES.items()]:
            began = perf_counter_ns()
            said = subprocess.run([sys.executable, "-c", code + peak], check=True, capture_output=True).stdout
            wall[name].append((perf_counter_ns() - began) / 1e6)
            memory[name].append(int(said) / 1024)
    return {"wall_ms": compared(wall, 2), "peak_mib": compared(memory, 2)}


def main():
    turns = contestants()
    # Values differ, as durations do.
    values = [0.001 * (1 + number % 97) for number in range(CALLS)]
    alone = {title: [] for title in turns}
    together = {title: [] for title in TWO_THREADS}
    for turn in turns.values():
        turn(values, thread_time_ns)
    for _ in range(TURNS):
        for title, turn in turns.items():
            alone[title].append(turn(values, thread_time_ns) / CALLS)
        for title in TWO_THREADS:
            together[title].append(two_threads(turns[title], values) / (2 * CALLS))
    packages = ("perfwatch-sdk", "prometheus-client", "opentelemetry-sdk", "hdrhistogram")
    result = {
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "turns": TURNS,
        "calls_per_turn": CALLS,
        "one_thread_ns": compared(alone),
        "two_threads_ns": compared(together),
        "import": imports(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
