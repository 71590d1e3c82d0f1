"""Pixels in shared memory: no bank is asked twice for a matrix, no two pixels share a place, slots are told back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lhcc.targets.cuda.patch import AT_ONCE, BANKS, Patch
from lhcc.targets.cuda.spec import ConvSpec

SPEC = ConvSpec(
    90, "fp16", 16, 4, (1, 1, 1), 0, (1, 1, 1), (1, 1), (1, 1), (4, 1, 64, 64), (4, 1, 64, 64), (1, 1), (1, 1), (0, 0),
    1, 1, 2, 4, 8, "", "",
)  # fmt: skip
TILES = [
    (2, 7, 7), (4, 4, 4), (8, 2, 2), (3, 5, 3), (1, 14, 14), (1, 4, 28), (1, 16, 8), (1, 1, 31), (5, 1, 49), (3, 6, 1),
]  # fmt: skip


def patches() -> list[Patch]:
    found = []
    for tile in TILES:
        for walk in ((1, 1), (2, 2), (2, 1), (3, 2)):
            for reach in ((3, 3), (1, 1), (7, 1), (5, 4)):
                for precision in ("fp16", "fp32"):
                    extents = [(n - 1) * w + r for n, w, r in zip(tile[1:], walk, reach, strict=True)]
                    patch = extents[0], extents[1]
                    found.append(Patch(replace(SPEC, tile=tile, stride=walk, patch=patch, precision=precision)))
    return found


@pytest.mark.parametrize("patch", patches(), ids=lambda p: f"{p.spec.tile} {p.spec.walk} {p.spec.patch}")
def test_eight_outputs_read_from_all_banks(patch: Patch) -> None:
    image, row, column = np.indices(patch.spec.tile).reshape(3, -1)
    at = image * patch.image + row * patch.row + column * patch.pixel
    for start in range(0, len(at) - AT_ONCE + 1, AT_ONCE):
        assert len(set(at[start : start + AT_ONCE] % BANKS)) == AT_ONCE


@pytest.mark.parametrize("patch", patches(), ids=lambda p: f"{p.spec.tile} {p.spec.walk} {p.spec.patch}")
def test_pixels_lie_apart_where_outputs_look_for_them(patch: Patch) -> None:
    rows, columns = patch.spec.patch
    (down, across), (_, height, width) = patch.spec.walk, patch.spec.tile
    place = np.array([[patch.place(y, x) for x in range(columns)] for y in range(rows)])
    assert len(np.unique(place)) == rows * columns and place.max() + patch.pixel <= patch.image
    assert np.diff(np.sort(place.reshape(-1))).min(initial=patch.pixel) >= patch.pixel
    for tap_row in range(rows - (height - 1) * down):
        for tap_column in range(columns - (width - 1) * across):
            y, x = np.indices((height, width))
            looked_for = place[tap_row, tap_column] + y * patch.row + x * patch.pixel
            np.testing.assert_array_equal(looked_for, place[y * down + tap_row, x * across + tap_column])
    for axis, extent in enumerate(patch.spec.patch):
        slots = sorted((patch.staged(slot, axis), slot) for slot in range(patch.spec.slots[axis]))
        assert [at for at, _ in slots[:extent]] == list(range(extent))
        one = [patch.place(at, 0) if axis == 0 else patch.place(0, at) for at in range(extent)]
        assert one == [slot * (patch.pixel if axis else patch.row) for _, slot in slots[:extent]]
