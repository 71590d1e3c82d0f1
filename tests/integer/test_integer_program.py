"""The integer program against an independent executor in Python integers, its intervals against exhaustive inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lhcc.errors import ArtifactError, InputError, ModelError
from lhcc.integer import Builder, Program, WidthError
from lhcc.integer.core import width
from lhcc.integer.storage import to_parts


def slow_conv(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray, stride: int, pad: int, dilation: int, groups: int
) -> np.ndarray:
    """One image, by the definition: Python loops, one product at a time."""
    height, columns, _ = x.shape
    kh, kw, per_group, outputs = w.shape
    rows = (height + 2 * pad - (kh - 1) * dilation - 1) // stride + 1
    cols = (columns + 2 * pad - (kw - 1) * dilation - 1) // stride + 1
    y = np.zeros((rows, cols, outputs), dtype=object)
    for r in range(rows):
        for c in range(cols):
            for o in range(outputs):
                g = o // (outputs // groups)
                total = int(bias[o])
                for i in range(kh):
                    for j in range(kw):
                        a, b = r * stride + i * dilation - pad, c * stride + j * dilation - pad
                        if 0 <= a < height and 0 <= b < columns:
                            for k in range(per_group):
                                total += int(w[i, j, k, o]) * int(x[a, b, g * per_group + k])
                y[r, c, o] = total
    return y


@pytest.mark.parametrize("seed", range(12))
def test_convolution_equals_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2, 3]))
    per_group, k, stride, dilation = (
        int(rng.integers(1, 3)),
        int(rng.choice([1, 2, 3])),
        int(rng.integers(1, 3)),
        int(rng.integers(1, 3)),
    )
    pad = int(rng.integers(0, 2))
    shape = (int(rng.integers(5, 8)), int(rng.integers(5, 8)), groups * per_group)
    w, bias = rng.integers(-9, 10, (k, k, per_group, groups * 2)), rng.integers(-99, 99, groups * 2)
    b = Builder()
    x = b.input("x", shape, 8, 0, signed=True)
    p = (pad, pad, pad, pad)
    program = b.build(
        b.conv("y", x, w, bias, stride=(stride, stride), padding=p, dilation=(dilation, dilation), groups=groups)
    )
    image = rng.integers(-128, 128, (1, *shape))
    got = program.run(image)[0][0]
    assert (got == slow_conv(image[0], w, bias, stride, pad, dilation, groups)).all()
    t = program.types["y"]
    assert (got >= t.low).all() and (got <= t.high).all()


def test_convolution_interval_is_reached() -> None:
    """Inputs at the ends of their interval reach the ends of the result's: the bound is exact, not only safe."""
    w = np.array([3, -5, 2]).reshape(1, 1, 3, 1)
    b = Builder()
    x = b.input("x", (1, 1, 3), 4, 0)
    program = b.build(b.conv("y", x, w, [7]))
    t = program.types["y"]
    assert (t.low[0], t.high[0]) == (7 - 75, 7 + 75)
    assert program.run(np.array([[[[15, 0, 15]]]]))[0].item() == t.high[0]
    assert program.run(np.array([[[[0, 15, 0]]]]))[0].item() == t.low[0]


def test_rounding_is_half_up() -> None:
    b = Builder()
    program = b.build(b.requantise("y", b.input("x", (6,), 8, 0, signed=True), 1))
    assert program.run(np.array([[5, -5, 3, -3, 4, -4]]))[0].tolist() == [[3, -2, 2, -1, 2, -2]]


@pytest.mark.parametrize("shift", [-3, 0, 1, 7])
def test_requantise_against_python(shift: int) -> None:
    rng = np.random.default_rng(shift + 9)
    values, multiplier = rng.integers(-2000, 2000, 300), 37
    b = Builder()
    program = b.build(b.requantise("y", b.input("x", (300,), 12, 0, signed=True), shift, -90, 80, multiplier))
    want = [min(max((v * multiplier + (1 << shift - 1) >> shift) if shift > 0 else v * multiplier << -shift, -90), 80)
            for v in values.tolist()]  # fmt: skip
    assert program.run(values[None])[0][0].tolist() == want


def test_pools_and_padding() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(-128, 128, (2, 5, 7, 3))
    b = Builder()
    x = b.input("x", (5, 7, 3), 8, 0, signed=True)
    program = b.build(b.max_pool("m", x, (3, 3), (2, 2), (1, 1, 1, 1)), b.sum_pool("s", x, (2, 3), (1, 2)))
    most, total = program.run(image)
    for r in range(3):
        for c in range(4):
            part = image[:, max(2 * r - 1, 0) : 2 * r + 2, max(2 * c - 1, 0) : 2 * c + 2]
            assert (most[:, r, c] == part.max(axis=(1, 2))).all()
    assert (total[:, 1, 2] == image[:, 1:3, 4:7].sum(axis=(1, 2))).all()
    assert program.types["s"].scale == pytest.approx(1 / 6)


def test_piecewise_interval_is_exact_over_all_inputs() -> None:
    b = Builder()
    x = b.input("x", (256,), 8, 0, signed=True)
    program = b.build(b.piecewise("y", x, [-40, 3, 50], [0, 5, -2, 7], [-30, 11, 60, -390], 2))
    y = program.run(np.arange(-128, 128)[None])[0][0]
    t = program.types["y"]
    assert (int(y[100]), int(y.min())) == (5 * (100 - 128) + 11, int(t.low.min()))
    assert int(y.max()) == int(t.high.max())


def test_large_sums_stay_exact_beyond_float64() -> None:
    """Weights so large that float64 would lose bits must take the integer path."""
    w = np.full((4, 1), (1 << 52) + 1)
    b = Builder()
    program = b.build(b.dense("y", b.input("x", (4,), 4, 0), w))
    assert program.run(np.array([[15, 15, 15, 15]]))[0].item() == 60 * ((1 << 52) + 1)


def test_residual_shifts_and_real_values() -> None:
    b = Builder()
    x = b.input("x", (2,), 8, 4)
    y = b.requantise("y", x, 2)
    program = b.build(b.add("z", x, y))
    assert program["z"].shifts == (0, 2)  # type: ignore[attr-defined]
    assert program.types["z"].fraction == 4
    assert program(np.array([[1.0, 3.0]], np.float32)).tolist() == [[2.0, 6.0]]  # type: ignore[union-attr]


def test_layouts_round_trip() -> None:
    b = Builder()
    program = b.build(b.relu("y", b.input("x", (2, 3, 4), 8, 0)))
    x = np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3)
    assert (program(x) == x).all()  # type: ignore[union-attr]


def test_storage(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    b = Builder()
    x = b.input("x", (4, 4, 2), 8, 3)
    c = b.requantise(
        "q", b.conv("c", x, rng.integers(-3, 4, (3, 3, 2, 5)), padding=(1, 1, 1, 1)), [1, 2, 3, 4, 5], 0, 200, scale=0.5
    )
    program = b.build(b.dense("d", b.flatten("f", b.max_pool("p", c, (2, 2))), np.ones((20, 3), int)))
    program.save(tmp_path / "p.npz")
    image = rng.integers(0, 256, (3, 4, 4, 2))
    again = Program.load(tmp_path / "p.npz")
    assert (again.run(image)[0] == program.run(image)[0]).all()
    assert to_parts(again)[0] == to_parts(program)[0] and again.proof() == program.proof()
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError):
        Program.load(tmp_path / "bad.npz")


def test_mistakes_are_named() -> None:
    b = Builder()
    x = b.input("x", (4,), 8, 0)
    with pytest.raises(WidthError, match="'d' needs"):
        b.dense("d", x, np.full((4, 1), 1 << 58))
    with pytest.raises(ModelError, match="inputs expected"):
        b.dense("e", x, np.ones((3, 1), int))
    program = b.build(b.dense("f", x, np.full((4, 1), 1 << 30)))
    with pytest.raises(WidthError, match="'f' needs"):
        program.check_width(32)
    with pytest.raises(InputError, match="NaN"):
        program(np.array([[np.nan, 0, 0, 0]]))
    with pytest.raises(InputError, match="interval"):
        program.run(np.array([[256, 0, 0, 0]]))


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 1), (0, 255, 8), (0, 256, 9), (-1, 0, 1), (-128, 127, 8), (-129, 0, 9), (-1, 1, 2)]
)
def test_width(low: int, high: int, bits: int) -> None:
    assert width(low, high) == bits
