"""Compiling changes no answer: each shipped digit network names every held-out digit as ONNX Runtime does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tvm")

import lhcc  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"


def held_out() -> Any:
    with np.load(EXAMPLE / "held_out.npz") as stored:
        return stored["pixels"].astype(np.float32)[:, None, None] / np.float32(16)


FILES = [
    pytest.param(path.name, marks=[] if path.name == "vgg_lhc_free.onnx" else [pytest.mark.slow])
    for path in sorted(EXAMPLE.glob("*.onnx"))
]


@pytest.mark.parametrize("file", FILES)
def test_every_digit_is_named_as_before(file: str) -> None:
    session = onnxruntime.InferenceSession(str(EXAMPLE / file))
    (name,) = (node.name for node in session.get_inputs())
    executable = lhcc.compile(str(EXAMPLE / file))
    for image in held_out():
        expected = session.run(None, {name: image})[0]
        found = np.asarray(executable(image))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert np.argmax(found) == np.argmax(expected)


@pytest.mark.slow
def test_the_demo_checks_accuracy_and_prints_the_profile() -> None:
    command = [sys.executable, str(EXAMPLE / "demo.py"), str(EXAMPLE / "vgg_lhc_free.onnx")]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 360 held-out digits" in done.stdout
    assert "stage2.1.conv" in done.stdout
