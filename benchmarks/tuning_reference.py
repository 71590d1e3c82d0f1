"""The best of the whole search space, for short searches to be compared with: every candidate is measured.

`python -m benchmarks.tuning_reference MODEL --database FILE --seconds 150`, repeated until nothing is left: what was
measured is not measured again.  Candidates of more effort for LLVM are tried only where the same choice with less
effort is near the best.  The last run compares the best candidates of every layer once more.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import wait

from lhcc.compiler import make_options
from lhcc.frontend import import_model
from lhcc.tuning.database import Database
from lhcc.tuning.measure import LocalLink, Measurer
from lhcc.tuning.search import Search
from lhcc.tuning.space import space_of
from lhcc.tuning.tuner import Batch, Tuner

TOGETHER = 8  # kernels whose candidates are measured in turn
TWIN = 1.08  # times the best: from here on more effort of the compiler is not tried


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
        for number in search.ranking.open:
            choice = task.choices[number]
            with_less = reached.get(task.code({**choice, "effort": 1}), float("inf"))
            if choice["effort"] == 1 or with_less < search.best_ratio * TWIN:
                groups.setdefault(task.code(choice), []).append(number)
        return list(map(tuple, groups.values()))

    def measure_all(self) -> int:
        """How many candidates are left when the time is over."""
        for search in self.searches:
            while (groups := self.missing(search)) and time.monotonic() < self.deadline and not search.broken:
                codes = {group: self.pool.submit(self._compile, search.task, group) for group in groups[:TOGETHER]}
                batch = Batch(search, self._problem(search.task), self._base(search.task), codes)
                wait([batch.base, *codes.values()])
                self._measure(batch, float("inf"))
                for number in [number for group in codes for number in group]:
                    search.ranking.drop(number)
                self._show()
        left = sum(len(group) for search in self.searches for group in self.missing(search))
        if not left:
            self.deadline = time.monotonic() + 120
            self._settle()
        return left


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model")
    options.add_argument("--database", required=True, metavar="FILE")
    options.add_argument("--seconds", type=float, default=150.0, help="for this run (default 150)")
    args = options.parse_args()
    space = space_of("cpu", make_options({}))
    tasks = space.tasks(import_model(args.model, None, None))
    link = LocalLink()
    try:
        measurer = Measurer(link)
        setting = space.setting(measurer.processor())
        tuner = Exhaustive(space, measurer, Database(args.database), setting, args.seconds)
        tuner.searches = [Search.resume(task, tuner.database, setting) for task in tasks]
        left = tuner.measure_all()
        tried = sum(search.tried for search in tuner.searches)
        seconds = time.monotonic() - tuner.started
        print(json.dumps({"seconds": seconds, "tried": tried, "left": left, "by_layers": tuner.speed_up()}))
    finally:
        tuner.pool.shutdown(cancel_futures=True)
        link.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
