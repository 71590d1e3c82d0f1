"""Interleaved measuring: every peer is a process of its own that is woken in turn for a slice and frozen again.

Noise that comes and goes (other programs, clock changes) then hits all peers alike, and the ratio of two peers within
one round is trustworthy where the milliseconds are not.  A peer that is missing, crashes, hangs or answers wrongly
costs only itself.

A peer is any command that speaks this protocol: it prints one JSON line `{"ready": 1, "version": ...}` or
`{"error": ...}`, then answers `run SECONDS` by `{"t": [seconds of each inference]}` and `out` by `{"out": [values]}`;
`quit` or the end of its input ends it.  Other lines are ignored.  With the times it may send `waiting`, the share of
the slice that a working thread stood ready without a CPU: above a few percent, medians flatter whoever runs briefly.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.progress import Progress
from benchmarks.results import ROOT, Result

# fp32 runtimes agree to about 1e-6 (2-norm); other precisions are shown for scale and not judged.
TOLERANCE = {"fp32": 1e-5}


@dataclass(frozen=True)
class Peer:
    """A command to measure; the answers of one group must agree.  The roles are those of `Result`."""

    name: str
    command: tuple[str, ...]
    precision: str = "fp32"
    role: str = "rival"
    group: str = ""


@dataclass(frozen=True)
class Plan:
    """How long and on which CPUs to measure."""

    rounds: int = 12
    slice_s: float = 0.4
    cpus: tuple[int, ...] = ()
    load_timeout_s: float = 600.0
    answer_timeout_s: float = 60.0
    realtime: bool = False


class PeerFailed(Exception):
    """The peer's own fault: what happened, in words."""


def measure(peers: Sequence[Peer], plan: Plan, progress: Progress | None = None) -> list[Result]:
    """Measures all peers in turn; one result each, in the order given."""
    progress = progress or Progress(quiet=True)
    results = [Result(peer.name, peer.precision, peer.role) for peer in peers]
    samples: list[list[float]] = [[] for _ in peers]
    waits: list[list[float]] = [[] for _ in peers]
    workers: dict[int, _Worker] = {}
    outputs: dict[int, list[float]] = {}
    try:
        for index, peer in enumerate(peers):
            progress.step(f"loading {peer.name}")
            try:
                worker = workers[index] = _Worker(peer, plan)
                ready = worker.ask(None, plan.load_timeout_s)
                results[index].version = str(ready.get("version", ""))
                results[index].prepare_s = worker.age_s
                outputs[index] = worker.ask("out", plan.answer_timeout_s)["out"]
                worker.freeze()
                if plan.realtime:
                    worker.prefer()
            except PeerFailed as failure:
                results[index].error = str(failure)
                _drop(workers, index)
        for round_ in range(plan.rounds):
            # Another peer begins each round, so that no one always runs after the same neighbour.
            order = list(workers)
            order = order[round_ % len(order) :] + order[: round_ % len(order)] if order else []
            for index in order:
                progress.step(f"round {round_ + 1} of {plan.rounds}: {peers[index].name}")
                try:
                    times, waiting = workers[index].run_slice(plan)
                except PeerFailed as failure:
                    results[index].error = f"{failure} (round {round_ + 1})"
                    _drop(workers, index)
                    continue
                samples[index] += times
                waits[index] += waiting
                results[index].rounds_ms.append(median(times))
    finally:
        for index in list(workers):
            _drop(workers, index)
    for result, times, waiting in zip(results, samples, waits, strict=True):
        if result.error is None:
            result.summarise(times)
            result.waiting = mean(waiting) if waiting else None
    _judge(peers, results, outputs)
    return results


def relative_error(found: Sequence[float], expected: Sequence[float]) -> float:
    """2-norm of the difference over the 2-norm of `expected`, on the values that both gave."""
    common = min(len(found), len(expected))
    if common == 0:
        return math.inf
    norm = math.hypot(*expected[:common])
    difference = math.hypot(*(a - b for a, b in zip(found[:common], expected[:common], strict=True)))
    return difference / norm if norm else difference


def _judge(peers: Sequence[Peer], results: list[Result], outputs: dict[int, list[float]]) -> None:
    """Compares every answer with the first healthy fp32 peer of its group."""
    for index, peer in enumerate(peers):
        if index not in outputs:
            continue
        same = [i for i in outputs if peers[i].group == peer.group and peers[i].precision == "fp32"]
        healthy = [i for i in same if results[i].error is None]
        if not healthy:
            continue
        error = relative_error(outputs[index], outputs[healthy[0]])
        results[index].relative_error = error
        tolerance = TOLERANCE.get(peer.precision, math.inf)
        # A NaN compares as neither smaller nor larger: it must not pass.
        if results[index].error is None and not error <= tolerance:
            results[index].error = f"wrong answer: relative error {error:.2g} against {peers[healthy[0]].name}"


def _drop(workers: dict[int, _Worker], index: int) -> None:
    if index in workers:
        workers.pop(index).kill()


class _Worker:
    """A peer's process, and the conversation with it."""

    def __init__(self, peer: Peer, plan: Plan) -> None:
        self.started = time.monotonic()
        self._pending = b""
        self._log = tempfile.TemporaryFile()  # lives as long as the process
        threads = str(max(1, len(plan.cpus)))
        environment = dict(
            os.environ,
            OMP_NUM_THREADS=threads,
            MKL_NUM_THREADS=threads,
            CUDA_VISIBLE_DEVICES="",
            OPENVINO_TELEMETRY="0",
            NNCF_DISABLE_TELEMETRY="1",
            PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        )
        try:
            with _pinned(plan.cpus):
                self.process = subprocess.Popen(
                    peer.command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    bufsize=0,
                    env=environment,
                )
        except OSError as problem:
            self._log.close()
            raise PeerFailed(f"cannot start {peer.command[0]}: {problem.strerror}") from None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started

    def run_slice(self, plan: Plan) -> tuple[list[float], list[float]]:
        """Wakes the peer, lets it run for one slice, freezes it: milliseconds of each inference, share of waiting."""
        self.wake()
        answer = self.ask(f"run {plan.slice_s}", plan.slice_s * 4 + plan.answer_timeout_s)
        times = answer.get("t")
        self.freeze()
        if not times:
            raise PeerFailed("answered without a single measurement")
        return [1e3 * float(seconds) for seconds in times], [float(answer["waiting"])] if "waiting" in answer else []

    def ask(self, command: str | None, timeout_s: float) -> dict[str, Any]:
        """Sends a command (None: only listens) and returns the next JSON object that the peer prints."""
        if command is not None:
            try:
                assert self.process.stdin is not None
                self.process.stdin.write(command.encode() + b"\n")
            except OSError:
                raise PeerFailed(self._obituary()) from None
        deadline = time.monotonic() + timeout_s
        while True:
            line = self._read_line(deadline)
            if not line.startswith(b"{"):
                continue
            try:
                answer: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            if "error" in answer:
                raise PeerFailed(str(answer["error"]))
            return answer

    def _read_line(self, deadline: float) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise PeerFailed("no answer in time")
            block = os.read(self.process.stdout.fileno(), 1 << 20)
            if not block:
                raise PeerFailed(self._obituary())
            self._pending += block
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def prefer(self) -> None:
        """From now on its threads run before all ordinary programs: for measuring on a busy machine."""
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))
            except PermissionError:
                raise PeerFailed("--realtime needs the right to raise priorities (root)") from None

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _obituary(self) -> str:
        """How the process ended, with the last line it said on stderr."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "closed its output without an answer"
        how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{how}: {last[-200:]}" if last else how


@contextlib.contextmanager
def _pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Children started inside inherit these CPUs; the caller gets its own back."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def runtime_peer(runtime: str, model: Path, threads: int, name: str = "", group: str = "", **options: str) -> Peer:
    """A peer out of `benchmarks.runtimes`, on an ONNX file; options go to its loader."""
    from benchmarks.runtimes import RUNTIMES

    command = [sys.executable, "-m", "benchmarks.worker", runtime, str(model), str(threads)]
    command += [f"{key}={value}" for key, value in options.items()]
    role = "ours" if runtime.startswith("lhcc") else "rival"
    return Peer(name or runtime, tuple(command), RUNTIMES[runtime].precision, role, group or str(model))


def choose_cpus(threads: int) -> tuple[int, ...]:
    """The highest-numbered usable CPUs: the first one serves most interrupts."""
    usable = sorted(os.sched_getaffinity(0))
    return tuple(usable[-threads:])
