"""The best of the whole search space, for short searches to be compared with: every candidate is measured.

`python -m benchmarks.tuning_reference NETWORK:DENSITY --folder FOLDER --compile`, then the same without --compile and
with `--seconds 150`, repeated until nothing is left: what was compiled or measured is not compiled or measured again,
and only measuring needs a quiet machine.  With `--limit 1200` the search ends after so many seconds of measuring and,
on all cores, of compiling.  Candidates of more effort for LLVM are tried only where the same choice with less effort
is near the best.  The last run compares the best candidates of every layer once more.
FOLDER/NETWORK-DENSITY.json is the database, FOLDER/NETWORK-DENSITY.log says what each run did.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import resource
import time
from collections.abc import Iterator, MutableMapping
from concurrent.futures import wait
from pathlib import Path

from benchmarks.models import network_file
from lhcc.compiler import make_options
from lhcc.frontend import import_model
from lhcc.tuning.database import Database
from lhcc.tuning.measure import LocalLink, Measurer
from lhcc.tuning.search import Search
from lhcc.tuning.space import space_of
from lhcc.tuning.tuner import Batch, Tuner

TOGETHER = 8  # kernels whose candidates are measured in turn
TWIN = 1.05  # times the best: from here on more effort of the compiler is not tried
SETTLE_S = 120.0  # for the last comparison


class Libraries(MutableMapping[str, bytes]):
    """Machine code by the identity of its kernel, in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, identity: str) -> Path:
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.so"

    def __getitem__(self, identity: str) -> bytes:
        try:
            return self._path(identity).read_bytes()
        except FileNotFoundError:
            raise KeyError(identity) from None

    def __setitem__(self, identity: str, library: bytes) -> None:
        written = self._path(identity).with_suffix(f".{os.getpid()}")
        written.write_bytes(library)
        written.rename(self._path(identity))

    def __delitem__(self, identity: str) -> None:
        self._path(identity).unlink()

    def __contains__(self, identity: object) -> bool:
        return self._path(str(identity)).exists()

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("identities are not kept")

    def __len__(self) -> int:
        return sum(1 for _ in self.folder.glob("*.so"))


class Exhaustive(Tuner):
    """A search that leaves nothing out."""

    def missing(self, search: Search) -> list[tuple[int, ...]]:
        """The candidates that are still to be measured, those of equal code together."""
        task = search.task
        reached: dict[object, float] = {}
        for number, ratio in search.ratios.items():
            code = task.code(task.choices[number])
            reached[code] = min(ratio, reached.get(code, ratio))
        groups: dict[object, list[int]] = {}
        for number in [] if search.broken else search.ranking.open:
            choice = task.choices[number]
            with_less = reached.get(task.code({**choice, "effort": 1}), math.inf)
            if choice["effort"] == 1 or with_less < search.best_ratio * TWIN:
                groups.setdefault(task.code(choice), []).append(number)
        return list(map(tuple, groups.values()))

    @property
    def left(self) -> int:
        return sum(len(group) for search in self.searches for group in self.missing(search))

    def compile_all(self) -> None:
        """What is still to be measured, in the order in which it will be, until the time is over."""
        waiting = [(search, self.missing(search)) for search in self.searches]
        while time.monotonic() < self.deadline and any(groups for _, groups in waiting):
            parts = [(search, group) for search, groups in waiting for group in groups[:TOGETHER]]
            waiting = [(search, groups[TOGETHER:]) for search, groups in waiting]
            wait([self.pool.submit(self._compile, search.task, group) for search, group in parts])

    def measure_all(self) -> None:
        """The best estimates of every workload first."""
        while time.monotonic() < self.deadline and any(map(self.missing, self.searches)):
            for search in self.searches:
                if time.monotonic() < self.deadline and (groups := self.missing(search)[:TOGETHER]):
                    codes = {group: self.pool.submit(self._compile, search.task, group) for group in groups}
                    self._measure(
                        Batch(search, self._problem(search.task), self._base(search.task), codes), float("inf")
                    )
                    for number in [number for group in groups for number in group]:
                        search.ranking.drop(number)
                    self._show()

    def settle(self) -> None:
        self.deadline = time.monotonic() + SETTLE_S
        self._settle()


def search_seconds(log: Path) -> float:
    """Of all runs so far: measuring as it took, compiling as it takes on all cores."""
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return math.fsum(run["measure_s"] + run["compile_cpu_s"] / (os.cpu_count() or 1) for run in runs)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("row", metavar="NETWORK:DENSITY")
    options.add_argument("--folder", type=Path, required=True, help="what is kept between the runs")
    options.add_argument("--seconds", type=float, default=150.0, help="for this run (default 150)")
    options.add_argument("--limit", type=float, default=math.inf, metavar="SECONDS", help="for all of them together")
    options.add_argument("--compile", action="store_true", help="compile only")
    options.add_argument("--busy", action="store_true", help="the machine is: count its processors' time")
    args = options.parse_args()
    name, _, density = args.row.partition(":")
    stem = f"{name}-{float(density):g}"
    log = args.folder / f"{stem}.log"
    space = space_of("cpu", make_options({}))
    tasks = space.tasks(import_model(str(network_file(name, float(density))), None, None))
    link = LocalLink()
    try:
        measurer = Measurer(link)
        setting = space.setting(measurer.processor())
        tuner = Exhaustive(space, measurer, Database(args.folder / f"{stem}.json"), setting, args.seconds)
        tuner.libraries = Libraries(args.folder / "kernels")
        tuner.searches = [Search.resume(task, tuner.database, setting) for task in tasks]
        before, compiled = search_seconds(log), time.process_time()
        if args.compile:
            tuner.compile_all()
        else:
            tuner.deadline = min(tuner.deadline, tuner.started + args.limit - before)
            tuner.measure_all()
            if not tuner.left or before + time.monotonic() - tuner.started >= args.limit:
                tuner.settle()
        seconds, cpu = time.monotonic() - tuner.started, time.process_time() - compiled
        if args.busy:
            link.close()
            children = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = (cpu + children.ru_utime + children.ru_stime) / (os.cpu_count() or 1)
        spent = {"measure_s": 0.0 if args.compile else seconds, "compile_cpu_s": cpu if args.compile else 0.0}
        done = {"tried": sum(search.tried for search in tuner.searches), "left": tuner.left}
        with log.open("a") as file:
            file.write(json.dumps({**spent, **done, "by_layers": tuner.speed_up()}) + "\n")
        print(log.read_text(), f"{search_seconds(log):.0f} s of search")
    finally:
        tuner.pool.shutdown(cancel_futures=True)
        link.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
