"""The comparison of whole networks: what does not show there is taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc
from lhcc.tuning.database import Database, best
from lhcc.tuning.guard import guard
from lhcc.tuning.measure import CandidateFailed
from lhcc.tuning.search import Search
from lhcc.tuning.tuner import Tuner
from tests.tuning.spaces import BASE, Doubling, task, wait

UNTUNED = b"untuned"
GAINS = (300, 1000, 2000)  # of 3000: the last saves least


@dataclass
class Races:
    """A measurer of networks of which those of some tuned workloads are faster."""

    faster: Callable[[int], bool]
    noise: float = 0.0
    raced: list[int] = field(default_factory=list)

    def race(self, artifacts: Sequence[bytes], _seconds: float) -> list[list[float]]:
        changed = int(artifacts[1])
        self.raced.append(changed)
        time = 90.0 if self.faster(changed) else 100.0
        return [[100.0] * 20, [time - self.noise, time + self.noise] * 10]


def decided(path: Path, measurer: Any) -> Tuner:
    """A tuner that has found something for every one of its workloads."""
    space = Doubling()
    tuner = Tuner(space, measurer, Database(path), space.setting("here"), 60.0)
    tuner.searches = [searched(tuner, f"workload {us}", us) for us in GAINS]
    return tuner


def searched(tuner: Tuner, workload: str, us: int) -> Any:
    search = Search.resume(task([BASE, wait(us)], workload), tuner.database, tuner.setting)
    tuner._note(search, 0, 3000.0, 3000.0)
    tuner._note(search, 1, float(us), 3000.0, final=True)
    search.chosen = 1
    return search


def kept(path: Path) -> list[bool]:
    records = Database(path).records()
    return [best(r for r in records if r.workload == f"workload {us}") == wait(us) for us in GAINS]


def raced(path: Path, races: Any) -> Any:
    tuner = decided(path, races)
    return guard(tuner, UNTUNED, lambda: str(sum(s.best_number != 0 for s in tuner.searches)).encode())


def test_a_faster_network_keeps_everything(tmp_path: Path) -> None:
    races = Races(lambda changed: True)
    whole = raced(tmp_path / "t.json", races)
    assert races.raced == [3] and kept(tmp_path / "t.json") == [True] * 3
    assert (whole.untuned_us, whole.tuned_us, whole.kept, whole.taken_back) == (100.0, 90.0, 3, 0)


def test_what_saves_least_is_taken_back_first(tmp_path: Path) -> None:
    races = Races(lambda changed: changed == 1)
    whole = raced(tmp_path / "t.json", races)
    assert races.raced == [3, 1] and kept(tmp_path / "t.json") == [True, False, False]
    assert (whole.tuned_us, whole.kept, whole.taken_back) == (90.0, 1, 2)


@pytest.mark.parametrize("noise", [0.0, 5.0], ids=["equal", "within noise"])
def test_a_network_that_is_not_faster_stays_untuned(tmp_path: Path, noise: float) -> None:
    whole = raced(tmp_path / "t.json", Races(lambda changed: False, noise))
    assert kept(tmp_path / "t.json") == [False] * 3
    assert (whole.untuned_us, whole.tuned_us, whole.kept, whole.taken_back) == (100.0, 100.0, 0, 3)
    assert "3 choices are not faster there and were taken back" in str(whole)


def test_a_network_that_crashes_stays_untuned(tmp_path: Path) -> None:
    class Broken:
        def race(self, *_: Any) -> Any:
            raise CandidateFailed("it crashed")

    whole = raced(tmp_path / "t.json", Broken())
    assert kept(tmp_path / "t.json") == [False] * 3
    assert "could not be measured: it crashed" in str(whole)


@pytest.fixture(scope="module")
def model() -> Any:
    """A convolution that takes longer than calling it."""
    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32, 24, 24]) for name in "xy"]
    weight = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, name="conv")
    graph = helper.make_graph([node], "net", maps[:1], maps[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("slower", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["slower", "faster"])
def test_real_networks(model: onnx.ModelProto, slower: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer by layer a bad choice is made to look good; the network tells it from a good one."""
    from lhcc.targets.cpu.variants import ranked

    def two(problem: Any) -> list[Any]:
        good = ranked(problem)[0]
        bad = replace(good, choice=replace(good.choice, height=1, width=1, unroll=4, chains=8))
        return [good, bad] if slower else [bad, good]

    monkeypatch.setattr("lhcc.targets.cpu.tuning.ranked", two)
    monkeypatch.setattr("lhcc.tuning.tuner.ratio", lambda samples, base: 0.5)
    path = tmp_path / "tuning.json"
    if not slower:  # the compiler's own choice is the good one: let the bad one stand for untuned
        monkeypatch.setattr("lhcc.targets.cpu.pack.preferred", two)
    report = lhcc.tune(model, budget_s=60, database=str(path))
    assert report.network is not None and report.network.taken_back == slower
    assert report.speed_up == pytest.approx(1.0 if slower else 2.0)
    assert Database(path).records()[-1].choice == dict(report.workloads[0].choice)
