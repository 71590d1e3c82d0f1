"""What all benchmark scripts share: the options, measuring a case, printing its table, and the verdict at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Peer, Plan, choose_cpus, measure, runtime_peer
from benchmarks.progress import Progress
from benchmarks.results import Case, Figure, Report, Result, fastest, origin, read, speed_up


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--json", type=Path, metavar="FILE", help="write commit, machine, medians and spread")
    update = "update --json's FILE: what is not measured again stays in it"
    result.add_argument("--update", action="store_true", help=update)
    result.add_argument("--check", action="store_true", help="exit 1 when a figure asked for is missed")
    result.add_argument("--quick", action="store_true", help="few short rounds: a smoke test, not a figure to quote")
    result.add_argument("--threads", default="1,2", help="thread counts (default 1,2)")
    result.add_argument("--rounds", type=int, help="rounds in which every peer has its turn")
    result.add_argument("--slice", type=float, metavar="SECONDS", help="length of a turn")
    result.add_argument("--cpus", help="CPUs to pin to, as 0,1 (default: the last ones)")
    realtime = "peers run before all other programs during their turns (needs root): for a busy machine"
    result.add_argument("--realtime", action="store_true", help=realtime)
    extra = "one more peer: COMMAND MODEL THREADS speaks the protocol of benchmarks.measure; {model} names the file"
    result.add_argument("--extra", action="append", default=[], metavar="NAME=COMMAND", help=extra)
    return result


# Waiting longer than this for a CPU means that other programs took part in the measurement.
BUSY = 0.05


class Session:
    """One run of one benchmark."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.args = args
        self.quick = bool(args.quick)
        self.thread_counts = [int(count) for count in str(args.threads).split(",")]
        self.rounds = args.rounds or (4 if self.quick else 12)
        self.slice_s = args.slice or (0.15 if self.quick else 0.4)
        self.progress = Progress()
        settings = {"quick": self.quick, "rounds": self.rounds, "slice_s": self.slice_s, "threads": self.thread_counts}
        self.report = Report(name, settings={**settings, "realtime": args.realtime}, origin=origin())
        if args.update and args.json is not None and args.json.exists():
            try:
                self.report.take(read(args.json))
            except ValueError as error:
                raise SystemExit(f"cannot update {args.json}: {error}") from None
        machine = self.report.origin["machine"]
        vectors, caches = " ".join(machine["vector_units"]), ", ".join(machine["caches"])
        print(f"{name} on {machine['cpu']} ({machine['cpus_usable']} CPUs; {vectors}; {caches})")
        if self.quick:
            print("quick: too short to quote")

    def cpus(self, threads: int) -> tuple[int, ...]:
        if self.args.cpus:
            return tuple(int(cpu) for cpu in self.args.cpus.split(","))[:threads]
        return choose_cpus(threads)

    def peers(self, model: Path, threads: int, runtimes: Sequence[str]) -> list[Peer]:
        """The named runtimes on one file, and what `--extra` adds."""
        found = [runtime_peer(runtime, model, threads) for runtime in runtimes]
        for extra in self.args.extra:
            name, _, command = extra.partition("=")
            words = command.format(model=model.stem).split()
            found.append(Peer(name, (*words, str(model), str(threads)), role="extra", group=str(model)))
        return found

    def measure(self, title: str, peers: Sequence[Peer], threads: int, **facts: Any) -> Case:
        """Measures one case, prints its table, and keeps it for the report."""
        cpus = self.cpus(threads)
        title = f"{title}, {threads} thread{'s' if threads > 1 else ''}"
        self.progress.start(title)
        results = measure(peers, Plan(self.rounds, self.slice_s, cpus, realtime=self.args.realtime), self.progress)
        self.progress.clear()
        return self.keep(Case(title, threads, results, {**facts, "cpus": list(cpus)}))

    def keep(self, case: Case) -> Case:
        # Cases of several runs can stand in one file: each says which sources it measured.
        case.facts.setdefault("commit", self.report.origin["commit"])
        self.report.add(case)
        print(f"\n{case.title}\n{table(case.results)}", flush=True)
        self._write()
        return case

    def ask(self, name: str, value: float | None, asked: float, unit: str = "x", at_least: bool = True) -> None:
        """Records a figure that was asked for, next to what was found."""
        figure = Figure(name, value, asked, unit, at_least)
        self.report.add(figure)
        print(f"  {'ok    ' if figure.met else 'MISSED'} {figure}", flush=True)
        self._write()

    def finish(self) -> int:
        """Says what was missed; the exit code."""
        missed = self.report.missed
        met = len(self.report.figures) - len(missed)
        print(f"\n{met} of {len(self.report.figures)} figures met")
        for figure in missed:
            print(f"missed: {figure}", file=sys.stderr if self.args.check else sys.stdout)
        return 1 if self.args.check and missed else 0

    def _write(self) -> None:
        """After every case, so that a run that is broken off leaves what it measured."""
        if self.args.json is not None:
            self.report.write(self.args.json)


def table(results: Sequence[Result]) -> str:
    """One line a peer; speed is relative to the fastest fp32 rival, best is the fastest twentieth of all runs."""
    best = fastest(results)
    lines = [f"  {'peer':<44}{'median':>10}{'quartiles':>20}{'best':>10}{'speed':>9}{'error':>8}{'waiting':>9}"]
    for result in results:
        name = f"{result.peer} {result.version}".strip()
        if result.precision != "fp32":
            name += f" ({result.precision}, for scale)"
        if not result.usable:
            lines.append(f"  {name:<44} {result.error}")
            continue
        speed = speed_up(best, result) if best is not None else None
        columns = [
            f"{result.median_ms:>7.3f} ms",
            f"{result.q1_ms:.3f} - {result.q3_ms:.3f}".rjust(20),
            f"{result.best_ms:>10.3f}",
            ("" if speed is None else f"{speed:.2f}x").rjust(9),
            ("" if result.relative_error is None else f"{result.relative_error:.0e}").rjust(8),
            ("" if result.waiting is None else f"{result.waiting:.0%}").rjust(9),
        ]
        lines.append(f"  {name:<44}{''.join(columns)}".rstrip())
    waiting = max((result.waiting for result in results if result.waiting is not None), default=0.0)
    if waiting > BUSY:
        lines.append(
            f"  busy machine: peers waited up to {waiting:.0%} of the time for a CPU; do not quote these figures"
        )
    return "\n".join(lines)
