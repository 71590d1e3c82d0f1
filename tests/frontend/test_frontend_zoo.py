"""Known networks, from the module and through ONNX, batch 1 and 4, each against PyTorch and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import lhcc

torch = pytest.importorskip("torch")
from tests.zoo import ZOO, to_onnx  # noqa: E402

pytestmark = pytest.mark.torch
# Of small networks too, the quick tests compile only one batch on each path.
QUICK = {(1, "onnx"), (4, "module")}
CASES = [
    pytest.param(name, batch, path, marks=pytest.mark.slow if entry.slow or (batch, path) not in QUICK else ())
    for name, entry in ZOO.items()
    for batch in (1, 4)
    for path in ("module", "onnx")
]


@dataclass(frozen=True)
class Given:
    """A network in both forms, an input, and what others make of it."""

    model: Any
    proto: Any
    x: Any
    expected: Mapping[str, Any]


@lru_cache(maxsize=1)
def given(name: str, batch: int) -> Given:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = ZOO[name].model()
    x = torch.randn(batch, *ZOO[name].shape, generator=torch.Generator().manual_seed(1))
    proto = to_onnx(model, x)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = {
            "PyTorch": [y.numpy() for y in as_tuple(model(x))],
            "ONNX Runtime": session.run(None, {session.get_inputs()[0].name: x.numpy()}),
        }
    return Given(model, proto, x, expected)


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def assert_close(actual: Any, expected: Any, whose: str) -> None:
    """Relative difference in the 2-norm, output by output."""
    assert len(as_tuple(actual)) == len(expected)
    for found, wanted in zip(as_tuple(actual), expected, strict=True):
        assert found.shape == wanted.shape and np.isfinite(found).all()
        difference = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert difference <= 1e-5, f"{difference:.2e} from {whose}"


@pytest.mark.parametrize("name, batch, path", CASES)
def test_network(name: str, batch: int, path: str) -> None:
    case = given(name, batch)
    compiled = lhcc.compile(case.model, inputs=case.x) if path == "module" else lhcc.compile(case.proto)
    actual = compiled(case.x.numpy())
    for whose, expected in case.expected.items():
        assert_close(actual, expected, whose)
