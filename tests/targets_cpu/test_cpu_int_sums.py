"""Sums of bytes in 16 bits are proved not to overflow; tiles for which that fails are split, and add up as before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lhcc.encodings import tiles
from lhcc.encodings.tiles import Tiles
from lhcc.integer import Builder
from lhcc.targets.cpu.int_choice import forms_of
from lhcc.targets.cpu.int_plan import storages
from lhcc.targets.cpu.int_sums import INT16, Sums, prove, words_of
from lhcc.targets.cpu.machine import Machine, create

AVX2 = Machine("haswell", "", (), 8, 16, madd=True)
DOTS = Machine("cortex-a76", "aarch64-linux-gnu", (), 4, 32, dot="sdot")


def encoded(rng: np.random.Generator, top: int, inputs: int = 40) -> Tiles:
    weight = rng.integers(-top, top + 1, (20, inputs, 3, 3)) * (rng.random((20, inputs, 3, 3)) < 0.5)
    return tiles.from_dense(words_of(weight, "bytes"), 16, 4)  # type: ignore[arg-type]


def as_bytes(given: Tiles) -> dict[tuple[int, ...], np.ndarray]:
    """For every position the sum of the weights of all its tiles."""
    found: dict[tuple[int, ...], np.ndarray] = {}
    for index, value in zip(given.index.tolist(), given.values, strict=True):
        old = found.get(tuple(index), np.zeros((*value.shape, 4), np.int64))
        found[tuple(index)] = old + np.ascontiguousarray(value).view(np.int8).reshape(*value.shape, 4)
    return found


@pytest.mark.parametrize("chunk", [1, 2, 4])
@pytest.mark.parametrize("seed", range(12))
def test_split_tiles_add_up_and_hold(seed: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    highest = int(rng.choice([255, 200, 15]))
    before = encoded(rng, int(rng.choice([3, 40, 127])))
    after = prove(before, Sums("bytes", chunk), highest)
    old, new = as_bytes(before), as_bytes(after)
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[key], new[key]) for key in old)
    order = np.lexsort((after.index[:, 1], after.index[:, 0], after.index[:, 2]))
    assert np.array_equal(order, np.arange(len(order))), "the order in which a kernel consumes tiles"
    # by brute force: of every 16-bit sum the least and greatest that inputs of 0 or `highest` can make of it
    lanes = after.values.view(np.int8).reshape(len(after.index), 4 // chunk, chunk, 16, 2, 2).astype(np.int64)
    products = lanes * highest
    assert np.minimum(products, 0).sum(axis=(2, 5)).min() >= INT16[0]
    assert np.maximum(products, 0).sum(axis=(2, 5)).max() <= INT16[1]


def test_nothing_is_split_needlessly() -> None:
    small = encoded(np.random.default_rng(0), 16)
    assert prove(small, Sums("bytes", 4), 255).values is not None
    assert len(prove(small, Sums("bytes", 2), 255).index) == len(small.index)
    assert prove(small, Sums("halves"), 255) is small
    one = Tiles((16, 4, 1, 1), 16, 1, np.zeros((1, 3), np.int32), np.full((1, 1, 16), 0x7F7F7F7F, np.int32))
    assert len(prove(one, Sums("bytes", 1), 255).index) == 2, "two pairs of 127 times 255 are beyond 16 bits"
    assert len(prove(one, Sums("bytes", 1), 128).index) == 1


def test_maps_are_as_narrow_as_those_who_read_them_allow() -> None:
    b = Builder()
    x = b.input("x", (8, 8, 3), bits=8, signed=True)
    y = b.requantise("y", b.conv("a", x, np.ones((3, 3, 3, 16))), 3, low=0, high=255)
    z = b.requantise("z", b.conv("b", y, np.full((3, 3, 16, 16), 3)), 5, low=0, high=255)
    wide = b.conv("c", z, np.full((1, 1, 16, 16), 400))
    maps = storages(b.build(wide), AVX2, 1)[0]
    assert (maps["x"].storage, maps["x"].block) == ("halves", 4), "signed, and of few channels"
    assert maps["y"].storage == "bytes"
    assert maps["z"].storage == "halves", "its reader's weights are wider than a byte"
    assert maps["c"].storage == "words"
    assert {place.storage for place in storages(b.build(wide), Machine("generic", "", (), 4, 16), 1)[0].values()} == {
        "words"
    }


def test_bytes_or_words_where_only_bytes_are_multiplied_narrow() -> None:
    b = Builder()
    x = b.input("x", (8, 8, 3), bits=8, signed=True)
    y = b.requantise("y", b.conv("a", x, np.ones((3, 3, 3, 16))), 3, low=0, high=255)
    z = b.requantise("z", b.conv("b", y, np.full((3, 3, 16, 16), -128)), 5, low=0, high=255)
    program = b.build(b.conv("c", z, np.full((1, 1, 16, 16), 400)))
    maps, reasons = storages(program, DOTS, 1)
    assert {name: maps[name].storage for name in ("x", "y", "z")} == {"x": "words", "y": "bytes", "z": "words"}
    assert "bytes hold 0 .. 255" in reasons["x"] and "bytes hold -128 .. 127" in reasons["z"]


@pytest.mark.parametrize("arguments, dot, madd", [
    ("mtriple=aarch64-linux-gnu,mcpu=cortex-a72", "", False),
    ("mtriple=aarch64-linux-gnu,mcpu=cortex-a76", "sdot", False),
    ("mtriple=aarch64-linux-gnu,mattr=neon+dotprod", "sdot", False),
    ("mtriple=aarch64-linux-gnu,mcpu=neoverse-v1", "usdot", False),
    ("mtriple=armv7l-linux-gnueabihf,mcpu=cortex-a55", "", False),
    ("mcpu=haswell", "", True),
    ("mcpu=cascadelake", "vpdpbusd", True),
])  # fmt: skip
def test_dot_products_of_processors(arguments: str, dot: str, madd: bool) -> None:
    machine = create(dict(each.split("=") for each in arguments.split(",")))
    assert (machine.dot, machine.madd) == (dot, madd)


def test_signed_bytes_have_128_taken_only_where_they_need_it() -> None:
    weight = np.ones((16, 16, 1, 1), np.int64)
    assert [forms_of(DOTS, "bytes", weight, highest)[0].less for highest in (127, 128)] == [0, 128]
    assert forms_of(replace(DOTS, dot="usdot"), "bytes", weight, 255)[0].less == 0
