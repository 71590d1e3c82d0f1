"""Tuning for GPUs: choices are measured on the emulated one, remembered and used; without a GPU there is a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lhcc
from lhcc.errors import LhccError, TargetError
from lhcc.frontend import import_model
from lhcc.runtime import cuda_driver
from lhcc.targets import base
from lhcc.targets.cuda import tuning
from lhcc.targets.cuda.codegen import Source, generate
from lhcc.targets.cuda.fragments import elements
from lhcc.targets.cuda.workload import setting
from lhcc.tuning.database import Database, Record
from lhcc.tuning.space import space_of
from tests.targets_cuda.emulation import compile_emulated, emulated_gpu
from tests.targets_cuda.test_cuda_runtime import _model

TARGET = "cuda:arch=sm_90,precision=fp16"


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    def emulated_source(kernels: Any, arch: str) -> Source:
        source = generate(kernels, arch)
        launches = {name: replace(launch, kernel=f"n0_{launch.kernel}") for name, launch in source.launches.items()}
        return Source(source.text, launches)

    monkeypatch.setattr(tuning, "generate", emulated_source)

    def compiled(source: Source, arch: str) -> tuple[bytes, list[Any]]:
        return f"emulated:{compile_emulated(source)}\0".encode(), []

    monkeypatch.setattr(tuning, "compile_kernels", compiled)
    monkeypatch.setattr(tuning, "TOGETHER", 2)
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    monkeypatch.setattr(tuning, "RUNS", 1)
    with emulated_gpu():
        yield


def test_choices_are_measured_and_remembered(emulated: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "tuning.json"
    space: Any = space_of(TARGET, base.Options())
    searches = space.searches(import_model(_model(), None, None))
    assert [search.layers for search in searches] == [["a"], ["c"], ["y"]]
    assert all(len(search.choices) > 1 for search in searches)
    few = [replace(search, choices=search.choices[:2]) for search in searches[1:2]]
    monkeypatch.setattr(tuning.CudaSpace, "searches", lambda *_: few)
    report = lhcc.tune(_model(), TARGET, budget_s=1000, database=str(database))
    assert report.ended == "every choice was measured" and report.measured == 2 and not report.failures
    records = Database(database).records()
    assert len(records) == 2 and all(record.us and record.base_us for record in records)
    assert records[0].setting.processor == "emulated" and "cuda sm_90" in records[0].setting.target
    assert "2 candidates measured on emulated" in str(report)


def test_what_was_measured_to_be_faster_is_compiled(tmp_path: Path) -> None:
    database = tmp_path / "tuning.json"
    space: Any = space_of(TARGET, base.Options())
    search = space.searches(import_model(_model(), None, None))[1]
    wanted = search.choices[40]
    where = replace(setting(space.target.machine), processor="some GPU")
    Database(database).add(Record(search.workload, where, wanted.to_dict(), 5.0, 10.0))
    mod = import_model(_model(), None, None)
    from lhcc.pipeline import lower

    lowered = lower(mod, base.parse(TARGET), base.Options(tuning=str(database)))
    assert {layer.schedule for layer in lowered.layers if layer.name == search.layers[0]} == {str(wanted)}
    assert any("tuned on some GPU" in reason.text for reason in lowered.reasons)
    assert any("not in the tuning database" in reason.text for reason in lowered.reasons)


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LhccError, match="does not exist"):
        lhcc.compile(_model(), TARGET, tuning=str(tmp_path / "none.json"))


def test_without_a_gpu_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libnothing.so.1")
    with pytest.raises(TargetError, match="no NVIDIA driver"):
        lhcc.tune(_model(), TARGET, budget_s=5, database=str(tmp_path / "t.json"))
    assert not (tmp_path / "t.json").exists()


def test_elements_of_every_type_are_read_as_numbers() -> None:
    values = np.array([1.0, -2.5, 0.0], np.float32)
    for element in ("float16", "bfloat16", "float32"):
        assert np.array_equal(tuning.numbers(elements(values, element), element), values)
