"""Exact sums of products out of instructions that multiply several narrow integers at once.

A word holds four unsigned bytes or two signed halves of the input; the weights have the same form.

| kind | one step, per lane of 32 bits | on |
|---|---|---|
| dot | sum += four products of bytes | AVX-512 VNNI, AVX-VNNI, 64-bit ARM from 8.2 on |
| bytes | four products of bytes into two 16-bit sums; now and then both are added to the sum | SSSE3, AVX2, AVX-512 |
| halves | sum += two products of halves | SSE2, AVX2, AVX-512 |
| words | sum += one product of words | everything |

The 16-bit sums of "bytes" must not overflow (and its instruction saturates).  That is proved here, weight by weight,
from the interval of the input; a weight tile for which it does not hold is split into two that hold it.

The bytes of "sdot" are signed.  Where the input passes 127, 128 is taken from each of its bytes, which turns their
highest bits around, and the bias makes up for it: it begins 128 times the sum of an output's weights higher.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings.tiles import Tiles
from lhcc.targets.cpu.int_storage import PER_WORD

INT16 = (-(1 << 15), (1 << 15) - 1)
BY_ELEMENT = ("usdot", "sdot")  # instructions that take one word of a vector as the input of all sums
NARROWEST = {"bytes": np.int8, "halves": np.int16, "words": np.int32}


@dataclass(frozen=True)
class Sums:
    """`chunk`: the words after which 16-bit sums are added to those of 32 bits.  `slim`: weights of halves are stored
    as bytes and widened when they are loaded: bringing weights near is what dense layers wait for.  `dot` is the
    instruction of this kind; `less` is taken from every byte of its input."""

    kind: str
    chunk: int = 1
    slim: bool = False
    dot: str = ""
    less: int = 0

    @property
    def storage(self) -> str:
        return "bytes" if self.kind == "dot" else self.kind

    def __str__(self) -> str:
        if self.kind == "dot":
            return self.dot + (f" of bytes less {self.less}" if self.less else "")
        return f"{self.kind} by {self.chunk}" if self.kind == "bytes" else self.kind

    def together(self, depth: int) -> int:
        """Words of the input of a weight tile that one load brings, to be operands one by one."""
        return depth if self.dot in BY_ELEMENT and depth in (2, 4) else 1

    def stored(self, words: NDArray[Any]) -> NDArray[Any]:
        """The weights as the kernel reads them."""
        return words.view(np.int16).astype(np.int8).view(np.int32) if self.slim else words


def words_of(weight: NDArray[np.int64], storage: str) -> NDArray[np.int32]:
    """(O, I, kh, kw) integers as (O, I / per word, kh, kw) words, the first input in the lowest bits."""
    outputs, inputs, height, width = weight.shape
    each = PER_WORD[storage]
    padded = np.pad(weight, ((0, 0), (0, -inputs % each), (0, 0), (0, 0))).astype(NARROWEST[storage])
    grouped = padded.reshape(outputs, -1, each, height, width).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(grouped).view(np.int32)[..., 0]


def holds(weight: NDArray[np.int64], storage: str) -> bool:
    limits = np.iinfo(NARROWEST[storage])
    return int(weight.min(initial=0)) >= limits.min and int(weight.max(initial=0)) <= limits.max


def prove(encoded: Tiles, sums: Sums, highest: int) -> Tiles:
    """`encoded`, its tiles split where a chunk's 16-bit sums could overflow for inputs within 0 .. `highest`."""
    if sums.kind != "bytes" or not len(encoded.index):
        return encoded
    count, depth, lanes = encoded.values.shape
    chunk = min(sums.chunk, depth)
    # tile, chunk, word of the chunk, lane, half of the word, byte of the half; each (chunk, lane, half) is one sum
    rest = encoded.values.view(np.int8).reshape(count, depth // chunk, chunk, lanes, 2, 2).astype(np.int32)
    owner = np.arange(count)
    pieces, owners = [], []
    while len(rest):
        piece = _first_that_fits(rest, highest)
        pieces.append(piece.astype(np.int8).reshape(len(piece), -1).view(np.int32).reshape(-1, depth, lanes))
        owners.append(owner)
        rest = rest - piece
        left = rest.reshape(len(rest), -1).any(axis=1)
        rest, owner = rest[left], owner[left]
    order = np.argsort(np.concatenate(owners), kind="stable")
    values, index = np.concatenate(pieces)[order], encoded.index[np.concatenate(owners)[order]]
    return replace(encoded, index=index, values=np.ascontiguousarray(values))


def _first_that_fits(weights: NDArray[np.int32], highest: int) -> NDArray[np.int32]:
    """Of every sum the weights, in order, that it can hold: the others are zero."""
    kept = np.zeros_like(weights)
    low, high = (np.zeros(weights.shape[:2] + weights.shape[3:5], np.int32) for _ in range(2))
    for word in range(weights.shape[2]):
        for byte in range(2):
            product = weights[:, :, word, :, :, byte] * highest
            fits = (low + product >= INT16[0]) & (high + product <= INT16[1])
            taken = np.where(fits, product, 0)
            low += np.minimum(taken, 0)
            high += np.maximum(taken, 0)
            kept[:, :, word, :, :, byte] = np.where(fits, weights[:, :, word, :, :, byte], 0)
    return kept
