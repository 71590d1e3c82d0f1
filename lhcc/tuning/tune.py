"""`lhcc.tune`: from a model to a database of the fastest choices, and what was gained."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lhcc.compiler import Source, compile_floats, make_options
from lhcc.errors import LhccError
from lhcc.frontend import import_model
from lhcc.report.progress import report
from lhcc.report.text import grid
from lhcc.runtime.files import scratch
from lhcc.targets import base
from lhcc.targets.base import Options
from lhcc.tuning.database import Database
from lhcc.tuning.guard import RACE_S, Whole, guard
from lhcc.tuning.measure import Link, LocalLink, Measurer, MeasuringFailed
from lhcc.tuning.search import Search
from lhcc.tuning.space import space_of
from lhcc.tuning.tuner import INTERRUPTED, Tuner


@dataclass(frozen=True)
class TunedWorkload:
    """What tuning did for the layers of one workload."""

    workload: str
    layers: tuple[str, ...]
    choices: int  # how many there are
    tried: int
    failed: int
    base_us: float | None  # one run of the untuned kernel
    speed_up: float
    choice: Mapping[str, Any]


@dataclass(frozen=True)
class TuningReport:
    """`str()` is a table; `json()` is plain data."""

    workloads: tuple[TunedWorkload, ...]
    database: str
    processor: str
    seconds: float
    measured: int
    ended: str
    failures: Mapping[str, int]  # why candidates failed
    network: Whole | None = None  # the untuned one against the tuned one; None: they are the same

    @property
    def speed_up(self) -> float:
        """Of the tuned layers together, as measured one by one."""
        known = [(w.base_us * len(w.layers), w.speed_up) for w in self.workloads if w.base_us is not None]
        after = sum(us / gain for us, gain in known)
        return sum(us for us, _ in known) / after if after else 1.0

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "speed_up": self.speed_up}

    def __str__(self) -> str:
        rows = [
            [
                w.layers[0] + (f" and {len(w.layers) - 1} more" if len(w.layers) > 1 else ""),
                "-" if w.base_us is None else f"{w.base_us:.1f}",
                f"{w.speed_up:.2f}x",
                f"{w.tried}/{w.choices}",
            ]
            for w in self.workloads
        ]
        rate = self.measured / self.seconds if self.seconds else math.nan
        lines = [
            grid(["layer", "untuned us", "speed-up", "tried"], rows),
            "",
            f"{self.measured} candidates measured on {self.processor} in {self.seconds:.1f} s ({rate:.1f} a second): "
            f"{self.speed_up:.2f}x over untuned, layers one by one; {self.ended}",
        ]
        lines += [str(self.network)] * (self.network is not None)
        lines += [f"{count} failed: {reason}" for reason, count in self.failures.items()]
        return "\n".join([*lines, f"compile with tuning={self.database}"])


def tune_with(
    model: Any,
    target: str,
    inputs: Any,
    *,
    budget_s: float,
    database: str,
    input_shapes: Mapping[str, Any] | None = None,
    rpc: str | None = None,
    key: str = "",
    also_generic: bool = False,
    **options: Any,
) -> TuningReport:
    """`tune_model`, with the options of the compiler as arguments of their own."""
    return tune_model(
        model, target, inputs, input_shapes, budget_s=budget_s, database=database, options=options,
        rpc=rpc, key=key, also_generic=also_generic,
    )  # fmt: skip


def tune_model(
    model: Any,
    target: str,
    inputs: Any = None,
    input_shapes: Mapping[str, Any] | None = None,
    *,
    budget_s: float,
    database: str,
    options: Mapping[str, Any],
    rpc: str | None = None,
    key: str = "",
    also_generic: bool = False,
) -> TuningReport:
    """Searches for `budget_s` seconds, importing the model and comparing the whole network at the end included."""
    started = time.monotonic()
    if not budget_s > 0:
        raise LhccError(f"a budget of {budget_s:g} s is no time to tune in", "give a positive number of seconds")
    if "tuning" in options:
        raise LhccError("tuning takes no database to compile with", "database= names the one to write")
    chosen = make_options(options)
    if chosen.precision != "fp32":
        raise LhccError(f"kernels of precision {chosen.precision} have nothing to tune", "leave out the precision")
    space = space_of(target, chosen)
    report("preparing to tune")
    mod = import_model(model, inputs, input_shapes)
    if hasattr(space, "tune"):  # a target whose kernels other means measure
        if rpc is not None or also_generic:
            raise LhccError(f"tuning for target '{target}' is local, and for its own kernels", "leave out the rest")
        tuned: TuningReport = space.tune(mod, budget_s - (time.monotonic() - started), database)
        return tuned
    tasks = [*space.tasks(mod), *(space.generic_tasks(mod) if also_generic else [])]
    link = _link(rpc, key)
    try:
        measurer = Measurer(link)
        processor = measurer.processor()
        setting = space.setting(processor)
        begun = time.monotonic()
        untuned = _artifact(mod, target, chosen)
        at_the_end = time.monotonic() - begun + RACE_S  # compiling and comparing once more
        left = budget_s - (time.monotonic() - started)
        tuner = Tuner(space, measurer, Database(database), setting, left - min(at_the_end, left / 2))
        network = None
        try:
            ended = tuner.run(tasks)
            if ended != INTERRUPTED and tuner.decided and space.compiles_for(processor):
                network = guard(tuner, untuned, lambda: _artifact(mod, target, replace(chosen, tuning=database)))
        except KeyboardInterrupt:
            ended = INTERRUPTED
        except MeasuringFailed as error:
            done = f"{tuner.measured} measurements are kept in {database}: the same command goes on from there"
            raise MeasuringFailed(error.message, done) from None
    finally:
        link.close()
    failures = Counter(reason for search in tuner.searches for reason in search.failures.values())
    return TuningReport(
        tuple(map(_outcome, tuner.searches)), str(database), processor, time.monotonic() - started,
        tuner.measured, ended, dict(failures), network,
    )  # fmt: skip


def _artifact(mod: Any, target: str, options: Options) -> bytes:
    """The bytes of the compiled network."""
    executable = compile_floats(Source(base.parse(target), options, mod=mod))
    with scratch() as folder:
        path = folder / "network.lhcc"
        executable.save(path)
        return path.read_bytes()


def _link(rpc: str | None, key: str) -> Link:
    if rpc is None:
        return LocalLink()
    from lhcc.tuning.remote import RemoteLink

    link: Link = RemoteLink(rpc, key)
    return link


def _outcome(search: Search) -> TunedWorkload:
    task = search.task
    return TunedWorkload(
        task.workload, task.layers, len(task.choices), search.tried, len(search.failures), search.base_us,
        1 / search.tuned_ratio, task.choices[search.best_number],
    )  # fmt: skip
