"""Resampling against ONNX's own reference implementation, for every mode, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from lhcc.frontend.resize import Axis, interpolation_matrix, nearest_index

COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
LENGTHS = [(5, 10), (5, 3), (7, 7), (1, 4), (4, 1), (6, 17)]


def reference(x: Any, out: int, **attributes: Any) -> Any:
    """A vector resized by ONNX's reference."""
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", 1, x.shape), helper.make_tensor_value_info("sizes", 7, [1])],
        [helper.make_tensor_value_info("y", 1, [out])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    return ReferenceEvaluator(model).run(None, {"x": x, "sizes": np.array([out])})[0]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest(coordinates: str, rounding: str) -> None:
    for size, out in LENGTHS:
        x = np.arange(size, dtype=np.float32)
        wanted = reference(x, out, mode="nearest", nearest_mode=rounding, coordinate_transformation_mode=coordinates)
        found = nearest_index(Axis(size, out, out / size), coordinates, rounding)
        np.testing.assert_array_equal(found, wanted, err_msg=f"{size} -> {out}")


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("how", [{}, {"exclude_outside": 1}, {"antialias": 1}])
def test_interpolation(coordinates: str, mode: str, how: dict[str, int]) -> None:
    rng = np.random.default_rng(3)
    for size, out in LENGTHS:
        if (how and size == 1) or (coordinates == "pytorch_half_pixel" and out == 1):
            continue  # ONNX's reference divides by zero; and takes -0.5 where the specification says 0
        x = rng.standard_normal(size).astype(np.float32)
        wanted = reference(x, out, mode=mode, coordinate_transformation_mode=coordinates, **how)
        matrix = interpolation_matrix(
            Axis(size, out, out / size),
            mode,
            coordinates,
            exclude_outside=bool(how.get("exclude_outside")),
            antialias=bool(how.get("antialias")),
        )
        np.testing.assert_allclose(matrix @ x, wanted, atol=1e-5, err_msg=f"{size} -> {out}")
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
