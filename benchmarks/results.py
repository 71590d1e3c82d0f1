"""What a benchmark found, as data: medians and spread per peer, the figures asked for, the machine; written as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

FORMAT = 1
ROOT = Path(__file__).resolve().parent.parent
Found = TypeVar("Found")
SAME_MACHINE = ("cpu", "cpus_usable", "vector_units", "caches")


@dataclass
class Result:
    """One peer in one case.  `rounds_ms` holds the median of every round, aligned with the rounds of the others.

    `waiting` is the share of its time that it stood ready without a CPU: a sign of a busy machine.
    Role: "rival" is a runtime to beat, "ours" is lhcc, "extra" is whatever else the user added to the run.
    """

    peer: str
    precision: str = "fp32"
    role: str = "rival"
    version: str = ""
    prepare_s: float = 0.0
    rounds_ms: list[float] = field(default_factory=list)
    median_ms: float | None = None
    q1_ms: float | None = None
    q3_ms: float | None = None
    best_ms: float | None = None
    waiting: float | None = None
    iterations: int = 0
    relative_error: float | None = None
    error: str | None = None

    def summarise(self, samples_ms: list[float]) -> None:
        """Fills median, quartiles and best (the fastest twentieth ends there) from all samples of all rounds."""
        self.iterations = len(samples_ms)
        if samples_ms:
            self.median_ms = median(samples_ms)
            twentieths = quantiles(samples_ms, n=20, method="inclusive") if len(samples_ms) > 1 else samples_ms * 19
            self.best_ms, self.q1_ms, self.q3_ms = twentieths[0], twentieths[4], twentieths[14]

    @property
    def usable(self) -> bool:
        """Measured to the end, with a right answer."""
        return self.error is None and self.median_ms is not None


def ratios(slow: Result, fast: Result) -> list[float]:
    """How many times longer `slow` took than `fast`, round by round; rounds that one of them lacks are left out."""
    return [a / b for a, b in zip(slow.rounds_ms, fast.rounds_ms, strict=False) if b > 0]


def speed_up(slow: Result, fast: Result) -> float | None:
    """Median over rounds of the per-round ratio: what the noise of a shared machine disturbs least."""
    found = ratios(slow, fast) if slow.usable and fast.usable else []
    return median(found) if found else None


def fastest(results: Iterable[Result], precision: str = "fp32") -> Result | None:
    """The rival with the smallest median among those that finished with a right answer."""
    rivals = [result for result in results if result.role == "rival" and result.precision == precision]
    usable = [result for result in rivals if result.usable]
    return min(usable, key=lambda result: result.median_ms or math.inf, default=None)


@dataclass
class Case:
    """Peers measured side by side on one question."""

    title: str
    threads: int
    results: list[Result]
    facts: dict[str, Any] = field(default_factory=dict)

    def result(self, peer: str) -> Result:
        return next(result for result in self.results if result.peer == peer)

    def speed(self, peer: str, precision: str = "fp32") -> float | None:
        """Speed of a peer over the fastest rival of this precision."""
        best = fastest(self.results, precision)
        return speed_up(best, self.result(peer)) if best is not None else None


@dataclass
class Figure:
    """A figure that was asked for, and what was measured; None when it could not be measured."""

    name: str
    value: float | None
    asked: float
    unit: str = "x"
    at_least: bool = True

    @property
    def met(self) -> bool:
        if self.value is None or not math.isfinite(self.value):
            return False
        return self.value >= self.asked if self.at_least else self.value <= self.asked

    def __str__(self) -> str:
        bound = f"asked {'>=' if self.at_least else '<='} {self.asked:g} {self.unit}"
        if self.value is None:
            return f"{self.name}: not measured, {bound}"
        text = f"{self.name}: {self.value:.3g} {self.unit}, {bound}"
        if self.met:
            return text
        short = 1 - self.value / self.asked if self.at_least else self.value / self.asked - 1
        return f"{text}, {abs(short):.0%} {'short' if self.at_least else 'over'}"


@dataclass
class Report:
    """Everything that one run of a benchmark says."""

    benchmark: str
    cases: list[Case] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def missed(self) -> list[Figure]:
        return [figure for figure in self.figures if not figure.met]

    def add(self, found: Case | Figure) -> None:
        """In the place of what was found before under the same name."""
        if isinstance(found, Case):
            _replace(self.cases, found, lambda case: case.title)
        else:
            _replace(self.figures, found, lambda figure: figure.name)

    def take(self, other: Report) -> None:
        """What another run of the same benchmark found on the same machine."""
        same = [self.benchmark, *(self.origin.get("machine", {}).get(key) for key in SAME_MACHINE)]
        if same != [other.benchmark, *(other.origin.get("machine", {}).get(key) for key in SAME_MACHINE)]:
            raise ValueError(f"it holds figures of {other.benchmark} from another machine, or of another benchmark")
        for case in other.cases:
            self.add(case)
        for figure in other.figures:
            self.add(figure)

    def write(self, path: Path) -> None:
        versions = {result.peer: result.version for case in self.cases for result in case.results if result.version}
        record = {
            "format": FORMAT,
            "benchmark": self.benchmark,
            **self.origin,
            "settings": self.settings,
            "versions": versions,
            "cases": [asdict(case) for case in self.cases],
            "figures": [{**asdict(figure), "met": figure.met} for figure in self.figures],
        }
        text = json.dumps(_finite(record), indent=1, allow_nan=False)
        unfinished = path.with_name(path.name + ".partial")
        unfinished.write_text(text + "\n")
        unfinished.replace(path)


def _replace(found: list[Found], new: Found, name: Callable[[Found], str]) -> None:
    """Puts `new` where one of its name stands, at the end if there is none."""
    names = [name(one) for one in found]
    place = names.index(name(new)) if name(new) in names else len(found)
    found[place : place + 1] = [new]


def read(path: Path) -> Report:
    """A report that `Report.write` wrote."""
    record = json.loads(path.read_text())
    if record.get("format") != FORMAT:
        raise ValueError(f"{path} has format {record.get('format')!r}; this version reads format {FORMAT}")
    cases = []
    for case in record["cases"]:
        results = [Result(**result) for result in case.pop("results")]
        cases.append(Case(results=results, **case))
    figures = [Figure(**{key: value for key, value in figure.items() if key != "met"}) for figure in record["figures"]]
    origin = {key: record[key] for key in ("commit", "dirty", "date", "machine") if key in record}
    return Report(record["benchmark"], cases, figures, record["settings"], origin)


def origin() -> dict[str, Any]:
    """Where and from which sources the figures come."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """The machine in words: nothing that names or locates it."""
    info = _cpu_info()
    flags = set(info.get("flags", info.get("Features", "")).split())
    units = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "asimddp")
    notable = [unit for unit in units if unit in flags]
    return {
        "cpu": info.get("model name", platform.processor() or platform.machine()),
        "architecture": platform.machine(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "vector_units": notable,
        "caches": _caches(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def _cpu_info() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _caches() -> list[str]:
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / what).read_text().strip() for what in ("level", "type", "size"))
        except OSError:
            continue
        found.append(f"L{level} {kind.lower()} {size}")
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
