"""Resampling of tensors (ONNX Resize and Upsample, PyTorch interpolate), exact for every mode because sizes are static.

Nearest neighbours are constant index vectors; linear and cubic interpolation are, per axis, a constant matrix.  The
common cases become one relax.image.resize2d, for which targets have kernels; the others take the general form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from lhcc.frontend.layers import constant, dtype_of, shape_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """Resampling along one axis: `scale` is output per input, `roi` the cropped range relative to the input."""

    size: int
    out: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)

    def origins(self, coordinates: str) -> Floats:
        """Where in the input each output element lies; the names are those of ONNX."""
        i = np.arange(self.out, dtype=np.float64)
        last = self.size - 1
        half = (i + 0.5) / self.scale - 0.5
        if coordinates == "half_pixel":
            return half
        if coordinates == "half_pixel_symmetric":
            adjustment = self.out / (self.scale * self.size)
            return self.size / 2 * (1 - adjustment) + half
        if coordinates == "pytorch_half_pixel":
            return half if self.out > 1 else np.zeros(1)
        if coordinates == "align_corners":
            length = self.scale * self.size  # where a scale is given, ONNX counts the fraction that is cut off
            return i * last / (length - 1) if length != 1 else np.zeros(self.out)
        if coordinates == "asymmetric":
            return i / self.scale
        if coordinates == "tf_half_pixel_for_nn":
            return (i + 0.5) / self.scale
        if coordinates == "tf_crop_and_resize":
            start, end = self.roi
            if self.out == 1:
                return np.array([0.5 * (start + end) * last])
            return start * last + i * (end - start) * last / (self.out - 1)
        raise NotImplementedError(f"coordinate transformation mode '{coordinates}'")


def nearest_index(axis: Axis, coordinates: str, rounding: str) -> NDArray[np.int64]:
    x = axis.origins(coordinates)
    if rounding == "round_prefer_floor":
        index = np.ceil(x - 0.5)
    elif rounding == "round_prefer_ceil":
        index = np.floor(x + 0.5)
    elif rounding == "floor":
        index = np.floor(x)
    elif rounding == "ceil":
        index = np.ceil(x)
    else:
        raise NotImplementedError(f"nearest mode '{rounding}'")
    return np.clip(index, 0, axis.size - 1).astype(np.int64)


def _triangle(t: Floats) -> Floats:
    return np.asarray(np.maximum(1 - np.abs(t), 0))


def _cubic(t: Floats, a: float) -> Floats:
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def interpolation_matrix(
    axis: Axis,
    mode: str,
    coordinates: str,
    cubic_a: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
) -> Floats:
    """The (out, size) matrix of linear or cubic interpolation; beyond the border the border's value continues."""
    x = axis.origins(coordinates)
    stretch = min(axis.scale, 1.0) if antialias else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / stretch)
    taps = np.floor(x)[:, None] + np.arange(1 - reach, reach + 1)
    offset = (taps - x[:, None]) * stretch
    weights = _triangle(offset) if mode == "linear" else _cubic(offset, cubic_a)
    if exclude_outside:
        weights = np.where((taps < 0) | (taps >= axis.size), 0.0, weights)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((axis.out, axis.size))
    rows = np.broadcast_to(np.arange(axis.out)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, axis.size - 1).astype(int)), weights)
    return matrix


def resize(
    data: Any,
    sizes: Sequence[int],
    scales: Sequence[float] | None,
    mode: str,
    coordinates: str,
    nearest: str = "round_prefer_floor",
    roi: Sequence[float] | None = None,
    cubic_a: float = -0.75,
    exclude_outside: bool = False,
    extrapolation: float = 0.0,
    antialias: bool = False,
) -> Any:
    """Resamples to `sizes`; `scales` where they are not exactly the ratio of the sizes; `roi` starts then ends."""
    shape = shape_of(data)
    rank = len(shape)
    scales = scales or [o / n for o, n in zip(sizes, shape, strict=True)]
    ranges = [(roi[i], roi[i + rank]) for i in range(rank)] if roi else [(0.0, 1.0)] * rank
    crop = coordinates == "tf_crop_and_resize"
    axes = [Axis(*one) for one in zip(shape, map(int, sizes), map(float, scales), ranges, strict=True)]
    active = [
        i
        for i, axis in enumerate(axes)
        if axis.size != axis.out or axis.scale != 1 or (crop and axis.roi != (0.0, 1.0))
    ]
    if not active:
        return data
    plane = rank == 4 and set(active) <= {2, 3}
    if mode == "nearest":
        out = _nearest(data, axes, active, plane, coordinates, nearest)
    else:
        exact = all(axes[i].scale == axes[i].out / axes[i].size for i in active)
        simple = exact and coordinates in {"half_pixel", "align_corners", "asymmetric"}
        simple = simple and not (coordinates == "align_corners" and 1 in (axes[i].out for i in active))
        if plane and mode == "linear" and simple and not antialias and not exclude_outside:
            return relax.op.image.resize2d(
                data, (axes[2].out, axes[3].out), method="linear", coordinate_transformation_mode=coordinates
            )
        out = data
        for i in active:
            matrix = interpolation_matrix(axes[i], mode, coordinates, cubic_a, exclude_outside, antialias)
            out = _along(out, rank, i, matrix.astype(dtype_of(data)))
    return _extrapolated(out, dtype_of(data), axes, active, coordinates, extrapolation) if crop else out


def _nearest(data: Any, axes: list[Axis], active: list[int], plane: bool, coordinates: str, rounding: str) -> Any:
    indices = {i: nearest_index(axes[i], coordinates, rounding) for i in active}
    repeated = all(
        axes[i].out % axes[i].size == 0 and (index == np.arange(axes[i].out) // (axes[i].out // axes[i].size)).all()
        for i, index in indices.items()
    )
    if plane and repeated:
        return relax.op.image.resize2d(
            data,
            (axes[2].out, axes[3].out),
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        )
    for i, index in indices.items():
        data = relax.op.take(data, constant(index), axis=i)
    return data


def _along(data: Any, rank: int, axis: int, matrix: NDArray[Any]) -> Any:
    """The matrix applied along one axis."""
    if axis == rank - 1:
        return relax.op.matmul(data, constant(np.ascontiguousarray(matrix.T)))
    order = [i for i in range(rank) if i != axis] + [axis]
    back = [order.index(i) for i in range(rank)]
    moved = relax.op.matmul(relax.op.permute_dims(data, order), constant(np.ascontiguousarray(matrix.T)))
    return relax.op.permute_dims(moved, back)


def _extrapolated(out: Any, dtype: str, axes: list[Axis], active: list[int], coordinates: str, value: float) -> Any:
    """What lies outside the input takes the given value."""
    inside = np.ones([axis.out if i in active else 1 for i, axis in enumerate(axes)], bool)
    for i in active:
        x = axes[i].origins(coordinates)
        ok = (x >= 0) & (x <= axes[i].size - 1)
        inside &= ok.reshape([-1 if j == i else 1 for j in range(len(axes))])
    if inside.all():
        return out
    return relax.op.where(constant(inside), out, relax.const(value, dtype))
