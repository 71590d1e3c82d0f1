"""Known networks, compiled and compared: batch 1 through ONNX with ONNX Runtime, batch 4 with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lhcc

torch = pytest.importorskip("torch")
from tests.zoo import ZOO, Entry, to_onnx  # noqa: E402

pytestmark = pytest.mark.torch
NETWORKS = [pytest.param(entry, id=name, marks=pytest.mark.slow if entry.slow else ()) for name, entry in ZOO.items()]


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def assert_close(actual: Any, expected: Any) -> None:
    """Relative difference in the 2-norm, output by output."""
    assert len(as_tuple(actual)) == len(as_tuple(expected))
    for found, wanted in zip(as_tuple(actual), as_tuple(expected), strict=True):
        assert found.shape == wanted.shape and np.isfinite(found).all()
        assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)


def example(entry: Entry, batch: int) -> Any:
    return torch.randn(batch, *entry.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("entry", NETWORKS)
def test_batch_4_from_the_module(entry: Entry) -> None:
    model, x = entry.model(), example(entry, 4)
    with torch.no_grad():
        expected = [y.numpy() for y in as_tuple(model(x))]
    assert_close(lhcc.compile(model, inputs=x)(x.numpy()), expected)


@pytest.mark.parametrize("entry", NETWORKS)
def test_batch_1_through_onnx(entry: Entry) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    x = example(entry, 1)
    model = to_onnx(entry.model(), x)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_close(lhcc.compile(model)(x.numpy()), expected)
