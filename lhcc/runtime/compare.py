"""A profile beside that of something else: another artifact or model, or ONNX Runtime on the same model."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lhcc.errors import InputError
from lhcc.runtime.profile import Profile
from lhcc.runtime.sampling import in_turn, timed

if TYPE_CHECKING:
    from lhcc.runtime.executable import Executable


@dataclass(frozen=True)
class Comparison:
    """`profile` of the one, and of the other the whole and whatever layers have the same names."""

    profile: Profile
    other: str
    total_us: float  # both totals are medians of runs that took turns
    other_total_us: float
    other_layers: Mapping[str, float]

    @property
    def speedup(self) -> float:
        return self.other_total_us / self.total_us

    def json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dumps`."""
        facts = {key: value for key, value in asdict(self).items() if key != "profile"}
        return {**self.profile.json(), "against": {**facts, "speedup": self.speedup}}

    def csv(self) -> str:
        return self.profile.csv()

    def html(self, pictures: Mapping[str, str] | None = None) -> str:
        return self.profile.html(pictures)

    def trace(self) -> str:
        return self.profile.trace()

    def __str__(self) -> str:
        from lhcc.report.text import comparison

        return comparison(self)


def compare(
    executable: Executable, against: str, model: str, inputs: Sequence[Any] = (), repeats: int | None = None
) -> Comparison:
    """Profiles both; `model` is what `executable` was made of, which ONNX Runtime must be able to read."""
    inputs = tuple(inputs) or executable.random_inputs()
    if against == "onnxruntime":
        from lhcc.runtime.onnxruntime_session import OrtSession

        session = OrtSession(model, executable, inputs)
        run, layers = session.run, session.layers
    else:
        other = _other(against, executable)
        if [(s.shape, s.dtype) for s in other.inputs] != [(s.shape, s.dtype) for s in executable.inputs]:
            takes = ", ".join(map(str, other.inputs))
            raise InputError(f"{against} takes other inputs than {model}: {takes}", "compare models of the same inputs")
        run, layers = lambda: other(*inputs), lambda: _layer_times(other.profile(*inputs, repeats=repeats))
    samplers = in_turn([timed(lambda: executable(*inputs)), timed(run)], repeats)
    ours, theirs = (statistics.median(time for (time,) in sampler.best()) for sampler in samplers)
    profile = executable.profile(*inputs, repeats=repeats)
    return Comparison(profile, against, ours, theirs, layers())


def _other(path: str, executable: Executable) -> Executable:
    from lhcc.runtime import artifact, container

    threads = executable.threads
    if container.is_container(path) or path.endswith(".lhcc"):
        loaded: Executable = artifact.load(path, threads)
        return loaded
    import lhcc

    compiled: Executable = lhcc.compile(path, target=executable.program.target, threads=threads)
    return compiled


def _layer_times(profile: Profile) -> dict[str, float]:
    times: dict[str, float] = defaultdict(float)
    for layer in profile.layers:
        times[layer.name] += layer.time_us
    return dict(times)
