"""The native half of perfwatch; import ``perfwatch`` instead.

Times are seconds as float, kept as integer nanoseconds. No call raises for what its arguments mean: what cannot be meant is
told once to the logger ``perfwatch`` and ignored. (A wrong number of arguments is Python's own ``TypeError``.)
"""

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, TypeVar, final

__all__ = [
    "Histogram",
    "Request",
    "Server",
    "StageScope",
    "Timer",
    "__version__",
    "current",
    "stage",
    "tell",
]

__version__: str

_Status = Literal[
    "disabled", "starting", "connected", "no agent", "permission denied", "refused", "no thread", "closed"
]
_Unit = Literal["s", "By", "{token}", "{request}", "{item}"]
_F = TypeVar("_F", bound=Callable[..., Any])

def current() -> Request | None:
    """The request of this thread or asyncio task, made so by its ``with`` statement, a decorator or a middleware; else None.

    It follows awaits, tasks and ``asyncio.to_thread``; ``loop.run_in_executor`` and threads of your own do not get it: hand
    them the request.
    """

def tell(text: str) -> None:
    """Says it to the logger ``perfwatch``, unless the same was said before."""

@final
class Server:
    """A model server that perfwatch watches.

    Starting never fails and recording never blocks; without an agent beside the server the numbers wait in a few KiB. Any
    thread may use it. After a fork each child counts for itself; workers of one parent are shown as one server. A pickled one
    is made anew, of the same arguments, where it arrives: in a process that was spawned, say. A copy is the same one.

    service: what the server is called, at most 128 bytes.
    instance: which of the service's instances; workers that give the same are one server. Default: found out.
    max_batch_size: requests the server puts into one batch at most; 0: not declared.
    config: settings that a finding may name; no secrets, they are shown as they are. At most 64 leave.
    socket: path of the agent's probe socket, instead of the usual places.
    flush_at_exit: at the interpreter's exit, wait for the agent's receipt of what is left: up to 1.5 s where an agent is, no
    time where none is.
    """

    def __new__(
        cls,
        service: str,
        *,
        instance: str | None = None,
        max_batch_size: int | None = None,
        config: Mapping[str, object] | None = None,
        socket: str | os.PathLike[str] | None = None,
        flush_at_exit: bool = True,
    ) -> Server: ...
    def request(self, stage: str | None = None) -> Request:
        """A request arrived; it is in the given stage, or in ``other``, until it enters another.

        Use it in a ``with`` statement, which also makes it the current request of the thread or asyncio task: it finishes at
        the end, fails on an ``Exception`` (of its name), and is cancelled when its task or generator is.
        """

    def dispatch(self, size: int, ready: int = 1) -> None:
        """A batch of ``size`` requests was executed, formed when ``ready`` requests were waiting for it in stage
        ``batch_wait``. ``ready`` tells a server that cannot batch from one that need not."""

    def cache_hit(self) -> None:
        """A look-up in a cache (of results, prefixes, embeddings) was answered from it."""

    def cache_miss(self) -> None:
        """A look-up in a cache was not answered from it."""

    def histogram(self, name: str, unit: _Unit = "s") -> Histogram:
        """A handle to a distribution of the server's own, as ``llm.prompt_length``. Get it once, record often.

        unit: "s" (record seconds as float; kept in nanoseconds), "By" (bytes), "{token}", "{request}" or "{item}" (record
        integers). The same name gives the same distribution, and the unit given first holds.
        """

    @property
    def status(self) -> _Status:
        """What became of the connection to the agent."""

    def flush(self) -> bool:
        """Sends everything up to now and waits up to 4 s for the agent's receipt; true when the agent has it. Other threads
        run meanwhile."""

    def close(self) -> bool:
        """Sends what is left as ``flush`` does, and ends the server's thread. A second call does nothing."""

    def __enter__(self) -> Server: ...
    def __exit__(self, *_exception: object) -> None: ...
    def __reduce__(self) -> tuple[Any, tuple[()]]: ...
    def __copy__(self) -> Server: ...
    def __deepcopy__(self, _memo: object) -> Server: ...

@final
class Request:
    """A request that is inside the server, in exactly one stage at any instant.

    One that is neither finished nor failed when Python lets go of it counts as abandoned. After its end every call on it does
    nothing. In the child of a fork it does nothing either: it goes on in the parent.
    """

    def enter(self, stage: str, /) -> None:
        """Goes to another stage, and so out of the present one.

        One of queue, preprocess, data_load, batch_wait, transfer, compute, prefill, decode, postprocess, send, other, or one
        of up to five names of the server's own; a sixth is taken for other.
        """

    def stage(self, name: str, /) -> StageScope:
        """A ``with`` block spent in a stage; after it the request is back in the stage it was in. name: as for ``enter``.

        Blocks of several tasks of one request may overlap: the one that began last and has not ended says the stage.
        """

    def finish(self) -> None:
        """Ends it well."""

    def fail(self, kind: str | None = None) -> None:
        """Ends it with an error.

        kind: as OpenTelemetry's ``error.type``, a short name out of a small set such as "timeout" or "503", never a message;
        15 kinds are kept apart, further ones count as "other".
        """

    def cancel(self) -> None:
        """Ends it because its client went away. It is counted apart; its duration is not recorded."""

    def first_token(self) -> None:
        """The first token is there: as ``token``, but does nothing when there was one before."""

    def token(self, count: int = 1) -> None:
        """One step of the stream brought this many tokens.

        The first step gives the time to first token (seconds since the request's arrival), each later one the time since the
        one before. A step of 0 tokens is none.
        """

    def prompt_tokens(self, total: int, /) -> None:
        """Says how many tokens the prompt has. Said again, only what is more than before counts."""

    def generated_tokens(self, total: int, /) -> None:
        """Says how many tokens were generated in all; what ``token`` counted already does not count twice."""

    def traceparent(self, header: str, /) -> bool:
        """Takes the trace id out of a W3C ``traceparent`` header, so that a slow request can be looked up. True when it is
        one."""

    def abandon(self) -> None:
        """Ends it without a verdict. It counts as abandoned; its duration is not recorded."""

    @property
    def ended(self) -> bool:
        """True once it ended."""

    def __enter__(self) -> Request: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        _error: BaseException | None = None,
        _trace: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class StageScope:
    """A ``with`` block that a request spends in a stage; see ``Request.stage``."""

    def __enter__(self) -> Request: ...
    def __exit__(
        self,
        _kind: type[BaseException] | None = None,
        _error: BaseException | None = None,
        _trace: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class stage:  # noqa: N801 - used as a function
    """The current request is in this stage during a ``with`` block, or during each call of a decorated function.

    Functions, coroutines, generators and async generators can be decorated. Without a current request it does nothing. One
    object may be used again, and by several threads and tasks at once.

    name: as for ``Request.enter``.
    """

    def __new__(cls, name: str) -> stage: ...
    def __enter__(self) -> Request | None: ...
    def __exit__(
        self,
        _kind: type[BaseException] | None = None,
        _error: BaseException | None = None,
        _trace: TracebackType | None = None,
        /,
    ) -> None: ...
    def __call__(self, function: _F) -> _F: ...

@final
class Histogram:
    """A handle to record values into one distribution of a server. Any thread may use it.

    A pickled one is the same distribution of the server that is made where it arrives.
    """

    def record(self, value: float, /) -> None:
        """Records one value: seconds where the unit is "s", else a whole number of the unit (fractions are cut off).

        Values are kept to 0.8 %, their count and sum exactly (to the nanosecond). Negative values, NaN and what is no number
        are ignored.
        """

    def time(self) -> Timer:
        """A ``with`` block whose duration is recorded, whether it raises or not; or a decorator of a function, for the
        duration of each call. For histograms in seconds."""

    def __reduce__(self) -> tuple[Any, tuple[Server]]: ...

@final
class Timer:
    """A ``with`` block whose duration, in seconds, is recorded; see ``Histogram.time``."""

    def __enter__(self) -> Timer: ...
    def __exit__(
        self,
        _kind: type[BaseException] | None = None,
        _error: BaseException | None = None,
        _trace: TracebackType | None = None,
        /,
    ) -> None: ...
    def __call__(self, function: _F) -> _F: ...
