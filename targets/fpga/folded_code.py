"""The folded array's memories: layer table, pass table, weights and biases, packed as the circuit reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from lhcc.integer.core import width
from lhcc.targets.fpga.folded_jobs import GAP, INPUTS, OUTPUTS, Folding, Job, allocate


@dataclass(frozen=True)
class Field:
    name: str
    bits: int
    signed: bool = False


@dataclass(frozen=True)
class Code:
    """All constants of one array: sizes for the Verilog, one line of hexadecimal per memory word."""

    activation_bits: int
    activations_signed: bool
    results_signed: bool
    accumulator_bits: int
    result_bits: int
    address_bits: int
    words: int
    input_words: int
    """of one image"""
    input_blocks: int
    input_lanes: bool
    """whether the image comes 16 channels at a time, as another array sends it, and not pixel by pixel"""
    banks: int
    """images that it can hold at its input"""
    pixels: int
    weight_bits: int
    job_fields: tuple[Field, ...]
    pass_fields: tuple[Field, ...]
    jobs: list[str]
    passes: list[str]
    weights: list[str]
    biases: list[str]

    def files(self, prefix: str) -> dict[str, str]:
        parts = {"jobs": self.jobs, "passes": self.passes, "weights": self.weights, "biases": self.biases}
        return {f"{prefix}_{name}.mem": "\n".join(lines) + "\n" for name, lines in parts.items()}


@dataclass(frozen=True)
class Demands:
    """What layers ask of an array, for an estimate of its size: all sizes are the largest, `pairs` add up."""

    activation_bits: int
    weight_bits: int
    accumulator_bits: int
    pairs: int
    words: int
    """of the largest two maps that are needed at once"""
    pixels: int

    def join(self, other: Demands) -> Demands:
        larger = {f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Demands(**{**larger, "pairs": self.pairs + other.pairs})


def demands(folding: Folding) -> Demands:
    types, jobs = folding.types, folding.jobs
    maps = [_blocks(types[j.output].channels) * _pixels(types[j.output].shape) for j in jobs]
    first = types[folding.input]
    maps = [_blocks(first.channels) * _pixels(first.shape), *maps]
    return Demands(
        max(types[n].bits for n in (folding.input, *(j.output for j in jobs[:-1]))), folding.weight_bits,
        max(_accumulator(folding, j) for j in jobs), sum(len(j.pairs) for j in jobs),
        max(a + b for a, b in pairwise(maps)), max(j.pixels for j in jobs),
    )  # fmt: skip


def _blocks(channels: int) -> int:
    return -(-channels // INPUTS)


def _pixels(shape: Sequence[int]) -> int:
    return int(np.prod(shape[:-1])) if len(shape) > 1 else 1


def _word(fields: Sequence[Field], values: dict[str, int]) -> str:
    """Fields side by side, the first lowest."""
    word = position = 0
    for f in fields:
        value = values[f.name]
        low, high = (-(1 << f.bits - 1), (1 << f.bits - 1) - 1) if f.signed else (0, (1 << f.bits) - 1)
        assert low <= value <= high, (f, value)
        word |= (value & ((1 << f.bits) - 1)) << position
        position += f.bits
    return f"{word:0{-(-position // 4)}x}"


def encode(folding: Folding, input_lanes: bool = False) -> Code:
    types, last = folding.types, folding.jobs[-1]
    stored = [types[folding.input], *(types[j.output] for j in folding.jobs[:-1])]
    signed = any(t.signed for t in stored)
    activation = max(width(min(int(t.low.min()), -1 if signed else 0), int(t.high.max())) for t in stored)
    accumulator = max(_accumulator(folding, j) for j in folding.jobs)
    sizes = {j.output: _blocks(types[j.output].channels) * _pixels(types[j.output].shape) for j in folding.jobs[:-1]}
    base, words = allocate(folding, sizes)
    input_blocks = _blocks(types[folding.input].channels)
    input_words = input_blocks * _pixels(types[folding.input].shape)
    address = max(1, (max(words, input_words) - 1).bit_length()) + 2  # room for steps back and whole rows
    pixels = max(j.pixels for j in folding.jobs)
    result_signed = signed or types[last.output].signed
    result = max(activation + (result_signed and not signed), types[last.output].bits)
    reach = max(max(*_image(folding, j), *(max(abs(s.dy), abs(s.dx)) for s in j.sources)) for j in folding.jobs)
    extent = max(8, 2 + reach.bit_length())
    small = max(1, max(max(j.rows, j.columns, *_image(folding, j)) for j in folding.jobs).bit_length())
    strides = max(4, *(j.stride.bit_length() for j in folding.jobs))
    job_fields = (
        Field("rows", small), Field("columns", small), Field("height", small), Field("width", small),
        Field("stride", strides), Field("pool", 1), Field("step", address, True), Field("down", address, True),
        Field("next_square", address, True), Field("next_row", address, True), Field("out_step", address),
        Field("waits", 1), Field("releases", 1), Field("to_output", 1), Field("shift", 6),
        Field("low", accumulator, True), Field("high", accumulator, True),
    )  # fmt: skip
    pass_fields = (
        Field("source", address, True), Field("dy", extent, True), Field("dx", extent, True), Field("first", 1),
        Field("last", 1), Field("end_of_job", 1), Field("target", address), Field("upper", 1), Field("from_input", 1),
    )  # fmt: skip
    jobs, passes, weights, biases = list[str](), list[str](), list[str](), list[str]()
    for job in folding.jobs:
        jobs.append(_word(job_fields, _job_values(folding, job, job is last, accumulator)))
        half = 1 << job.shift - 1 if job.shift else 0
        constants = np.zeros(job.blocks * OUTPUTS, np.int64)
        constants[: len(job.bias)] = job.bias + half
        for row in constants.reshape(-1, OUTPUTS).tolist():
            biases.append(
                _word(
                    [Field(str(k), accumulator, True) for k in range(OUTPUTS)], {str(k): v for k, v in enumerate(row)}
                )
            )
        for k, pair in enumerate(job.pairs):
            source = types[pair.source.tensor]
            blocks, columns = _blocks(source.channels), source.shape[1] if len(source.shape) == 3 else 1
            offset = (pair.source.dy * columns + pair.source.dx) * blocks + pair.input_block
            passes.append(_word(pass_fields, {
                "source": base.get(pair.source.tensor, 0) + offset,
                "dy": pair.source.dy, "dx": pair.source.dx,
                "first": k == 0 or job.pairs[k - 1].output_block != pair.output_block,
                "last": k + 1 == len(job.pairs) or job.pairs[k + 1].output_block != pair.output_block,
                "end_of_job": k + 1 == len(job.pairs),
                "target": base.get(job.output, 0) + pair.output_block // 2,
                "upper": pair.output_block % 2, "from_input": pair.source.tensor == folding.input,
            }))  # fmt: skip
            weights.append(_weights(pair.weights, folding.weight_bits))
    return Code(
        activation, signed, result_signed, accumulator, result, address, words, input_words,
        input_blocks, input_lanes, _banks(folding, input_words, input_lanes), pixels, folding.weight_bits,
        job_fields, pass_fields, jobs, passes, weights, biases,
    )  # fmt: skip


def _banks(folding: Folding, input_words: int, input_lanes: bool) -> int:
    """One where the next image has time to come in after the last job that reads it, else two."""
    readers = [k for k, j in enumerate(folding.jobs) if any(s.tensor == folding.input for s in j.sources)]
    held = sum(j.cycles + GAP for j in folding.jobs[: readers[-1] + 1])
    return 2 if input_lanes or held + input_words > folding.period else 1


def _image(folding: Folding, job: Job) -> tuple[int, int]:
    shape = folding.types[job.sources[0].tensor].shape
    return (shape[0], shape[1]) if len(shape) == 3 else (1, 1)


def _accumulator(folding: Folding, job: Job) -> int:
    """Bits of a job's finished sums, rounding constant and limits included; partial sums may wrap, the end is exact."""
    low, high = job.bias.astype(object), job.bias.astype(object)
    for s in job.sources:
        t = folding.types[s.tensor]
        plus, minus = np.maximum(s.matrix, 0), np.minimum(s.matrix, 0)
        least, most = np.minimum(t.low, 0), np.maximum(t.high, 0)
        low, high = low + least @ plus + most @ minus, high + most @ plus + least @ minus
    half = 1 << job.shift - 1 if job.shift else 0
    limits = [b for b in (job.low, job.high) if b is not None]
    return width(min(int(min(low)), -1, *limits), max(int(max(high)) + half, *limits, 0))


def _job_values(folding: Folding, job: Job, last: bool, accumulator: int) -> dict[str, int]:
    height, columns = _image(folding, job)
    source = folding.types[job.sources[0].tensor]
    stride = job.stride if job.pixels > 1 else 1
    u = stride * _blocks(source.channels)
    r = u * columns
    walked = job.walked
    most = (1 << accumulator - 1) - 1
    waits = any(s.tensor == folding.input for s in job.sources)
    later = folding.jobs[[j.name for j in folding.jobs].index(job.name) + 1 :]
    needed = any(s.tensor == folding.input for j in later for s in j.sources)
    return {
        "rows": walked[0] - 1, "columns": walked[1] - 1, "height": height, "width": columns,
        "stride": stride, "pool": int(job.pool), "step": u, "down": r - u, "next_square": u - r,
        "next_row": r - (walked[1] - 1) * u,
        "out_step": _blocks(folding.types[job.output].channels), "waits": int(waits),
        "releases": int(waits and not needed),
        "to_output": int(last), "shift": job.shift,
        "low": -most - 1 if job.low is None else job.low, "high": most if job.high is None else job.high,
    }  # fmt: skip


def _weights(block: np.ndarray, bits: int) -> str:
    """In two's complement, output-major, the first lowest."""
    planes = (block.T.reshape(-1, 1) >> np.arange(bits) & 1).astype(np.uint8)
    word = int.from_bytes(np.packbits(planes.ravel(), bitorder="little").tobytes(), "little")
    return f"{word:0{-(-block.size * bits // 4)}x}"
