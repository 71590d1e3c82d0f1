"""The example's networks: their size, and their accuracy as integers without multiplications."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from examples.dyadic import use_cases
from lhcc.approximation import approximate
from lhcc.approximation.calibrate import run
from lhcc.approximation.quantise import quantise
from lhcc.integer import Requantise

FOLDER = Path(use_cases.__file__).parent


@pytest.mark.parametrize(("name", "parameters", "least"), [("detector", 919, 93.0), ("digits", 180_286, 97.0)])
def test_integers_keep_the_accuracy_without_multiplications(name: str, parameters: int, least: float) -> None:
    model = onnx.load(FOLDER / f"{name}.onnx")
    constants = map(onnx.numpy_helper.to_array, model.graph.initializer)
    assert sum(array.size for array in constants if array.dtype.kind == "f") == parameters
    calibration, x, labels = use_cases.data(name)
    dyadic = approximate(model, set="digits:2:4", calibrate=calibration)
    program = quantise(dyadic, calibration)
    scaled = [step for step in program.instructions if isinstance(step, Requantise)]
    assert all((np.asarray(step.multiplier) == 1).all() for step in scaled)
    exact, integer = use_cases.share(run(model, x)[0], labels), use_cases.share(program(x), labels)
    assert exact > least and exact - integer <= 0.3


def test_alexnet_layers_are_rows_of_the_table() -> None:
    line, kernels, seconds = use_cases.alexnet("conv1", "half")
    assert line.startswith("conv1") and f"{96 * 3 * 121 * 55 * 55:,} -> 0" in line
    assert kernels == 288 and seconds >= 0
    assert sum(f * i for name, (f, i, _, _) in use_cases.ALEXNET.items() if name != "fc6") == 233_760
