"""An agent that acknowledges everything and adds it up, per service. Speaks probes/sdk/wire/perfwatch.proto."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter, defaultdict

STAGES = ["queue", "preprocess", "data_load", "batch_wait", "transfer", "compute", "prefill", "decode", "postprocess"]
STAGES += ["send", "other"]
# Fields of Flush.
COUNTERS = {5: "started", 6: "completed", 7: "failed", 8: "abandoned", 9: "dispatches", 22: "cancelled"}
COUNTERS |= {24: "prompt_tokens", 25: "generated_tokens", 26: "cache_hits", 27: "cache_misses"}


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def encoded(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def fields(message: bytes) -> dict[int, list]:
    """Values by field number: int for varints, bytes for what has a length."""
    found, at = defaultdict(list), 0
    while at < len(message):
        key, at = varint(message, at)
        if key & 7 == 0:
            value, at = varint(message, at)
        else:
            assert key & 7 == 2, key
            size, at = varint(message, at)
            value, at = message[at : at + size], at + size
        found[key >> 3].append(value)
    return found


def packed(values: list[bytes]) -> list[int]:
    out = []
    for data in values:
        at = 0
        while at < len(data):
            value, at = varint(data, at)
            out.append(value)
    return out


class Seen:
    """What the sessions of one service told, added up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        # By name, or "stage.duration/<stage>": how many values, and their sum.
        self.values: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.trace_ids: set[str] = set()
        # Of those who told of requests: a pre-forking master tells of none.
        self.instances: set[bytes] = set()
        self.sessions: set[bytes] = set()
        self.pids: set[int] = set()
        self.config: dict[bytes, bytes] = {}
        self.in_flight: dict[bytes, int] = {}

    @property
    def ended(self) -> int:
        return sum(self.counts[name] for name in ("completed", "failed", "abandoned", "cancelled"))

    def add(self, session: bytes, instance: bytes, flush: dict[int, list]) -> None:
        if sum(flush[5]):
            self.instances.add(instance)
        for number, name in COUNTERS.items():
            self.counts[name] += sum(flush[number])
        for entry in map(fields, flush[23]):
            self.errors[entry[1][0].decode()] += entry[2][0]
        self.trace_ids.update(fields(entry)[4][0].hex() for entry in flush[28] if fields(entry)[4])
        self.in_flight[session] = sum(fields(entry)[2][0] for entry in flush[11])
        stages = dict(enumerate(STAGES))
        for entry in map(fields, flush[14]):
            stages[entry[1][0]] = entry[2][0].decode()
        for entry in map(fields, flush[4]):
            name = entry[1][0].decode()
            if name == "stage.duration":
                name += "/" + stages[(entry[2] or [0])[0]]
            self.values[name] += sum(packed(entry[6]))
            self.sums[name] += sum(entry[4])


class Agent:
    """Listens until it is closed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.services: defaultdict[str, Seen] = defaultdict(Seen)
        self.trouble: list[BaseException] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        assert not self.trouble, self.trouble

    def wait(self, service: str, what, seconds: float = 30) -> Seen:
        """Once `what` holds of the service; fails when it does not come to that."""
        deadline = time.monotonic() + seconds
        while True:
            with self._lock:
                seen = self.services[service]
                if what(seen):
                    return seen
            assert time.monotonic() < deadline, (service, seen.counts, seen.values, self.trouble)
            time.sleep(0.02)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._converse(connection)
        except (ConnectionError, IndexError):  # closed, perhaps within a message
            pass
        except BaseException as error:
            self.trouble.append(error)

    def _converse(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        seen, session, instance = Seen(), b"", b""
        while message := read(stream):
            body = fields(message)
            if body[1]:
                hello = fields(body[1][0])
                instance, session = hello[4][0], hello[5][0]
                with self._lock:
                    seen = self.services[hello[3][0].decode()]
                    seen.sessions.add(session)
                    seen.pids.add((packed(hello[6]) or [0])[-1])
                    seen.config.update((fields(entry)[1][0], fields(entry)[2][0]) for entry in hello[10])
                # Welcome: protocol 1, no flush known, 1 MiB, 256 series.
                answer = b"\x08\x01\x18" + encoded(1 << 20) + b"\x20" + encoded(256)
                write(connection, b"\x0a" + encoded(len(answer)) + answer)
            else:
                flush = fields(body[2][0])
                with self._lock:
                    seen.add(session, instance, flush)
                answer = b"\x08" + encoded(flush[1][0])
                write(connection, b"\x12" + encoded(len(answer)) + answer)


def read(stream) -> bytes:
    size = shift = 0
    while True:
        byte = stream.read(1)
        if not byte:
            return b""
        size |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return stream.read(size)


def write(connection: socket.socket, message: bytes) -> None:
    connection.sendall(encoded(len(message)) + message)
