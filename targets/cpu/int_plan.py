"""From an instruction of the integer program to the tables of its kernel: storage of maps, sums, tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings import tiles
from lhcc.encodings.tiles import ungroup
from lhcc.integer import Conv, Dense, Instruction, MaxPool, Program, SumPool, TensorType
from lhcc.targets.base import Options
from lhcc.targets.cpu.ahead import ahead
from lhcc.targets.cpu.geometry import Line, conv_lines
from lhcc.targets.cpu.int_choice import SumChoice, forms_of, ranked
from lhcc.targets.cpu.int_storage import BLOCK, PER_WORD, SMALL_BLOCK, Map
from lhcc.targets.cpu.int_sums import Sums, holds, prove, words_of
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.plan import Plan, plan_conv
from lhcc.targets.cpu.tiling import Axes, cover

Summing = Conv | Dense | MaxPool | SumPool
NOWHERE = (0, 0, 0, 0)  # the rectangle of a tap that is outside the image, where it is multiplied nevertheless
WORTH = 1.15  # bytes are this much faster than halves, even where all 16-bit sums are as short as they can be


@dataclass(frozen=True)
class Window:
    """What is summed, or compared, over which pixels; `weight` is (outputs, inputs, rows, columns)."""

    weight: NDArray[np.int64]
    bias: NDArray[np.int32]
    axes: Axes
    lanewise: bool
    pool: bool
    combine: str
    positions: int

    @classmethod
    def of(cls, step: Summing, x: tuple[int, ...], y: tuple[int, ...]) -> Window:
        """`x` and `y` are the shapes of what it reads and makes."""
        size = (*x, 1, 1)[:2] if len(x) == 3 else (1, 1)
        out = (y[0], y[1]) if len(y) == 3 else (1, 1)
        if isinstance(step, Dense):
            axes = Axes(*((line,) for line in conv_lines(1, 1, 1, 1, 0, 1) * 2))
            return cls(weights_of(step), step.bias.astype(np.int32), axes, False, False, "multiply", 1)
        window = step.window

        def lines(axis: int) -> tuple[Line, ...]:
            pad, dilation = window.padding[axis], window.dilation[axis]
            return tuple(conv_lines(size[axis], out[axis], window.kernel[axis], window.stride[axis], pad, dilation))

        axes, positions = Axes(lines(0), lines(1)), out[0] * out[1]
        if isinstance(step, Conv):
            weight = weights_of(step)
            lanewise = is_depthwise(step, x[-1])
            full = weight if lanewise else ungroup(weight, step.groups)  # type: ignore[arg-type]
            bias = step.bias.astype(np.int32)
            return cls(np.ascontiguousarray(full), bias, axes, lanewise, False, "multiply", positions)
        ones = np.ones((x[-1], 1, *window.kernel), np.int64)
        combine = "max" if isinstance(step, MaxPool) else "add"
        return cls(ones, np.zeros(x[-1], np.int32), axes, True, True, combine, positions)

    def costs(self, plan: Plan, sums: Sums, images: int) -> dict[str, Any]:
        """What the profile says of the layer."""
        if self.pool:
            return {"encoding": "", "density": 1.0, "macs": 0, "macs_kept": 0}
        each = PER_WORD[sums.storage] if not self.lanewise else 1
        return {
            "encoding": "depthwise" if self.lanewise else f"tiles ({sums.storage})",
            "density": float(np.count_nonzero(self.weight)) / max(1, self.weight.size),
            "macs": int(self.weight.size) * self.positions * images,
            "macs_kept": plan.macs * each,
        }


def is_depthwise(step: Instruction, channels: int) -> bool:
    return isinstance(step, Conv) and step.groups == channels and step.weight.shape[2:] == (1, channels)


def storages(program: Program, machine: Machine, images: int) -> tuple[dict[str, Map], dict[str, str]]:
    """Every map in the narrowest form that holds its interval and that all sums over it can work with; why not in a
    narrower one."""
    found, reasons = {}, {}
    for name, kind in program.types.items():
        height, width = kind.shape[:2] if len(kind.shape) == 3 else (1, 1)
        users = program.users[name]
        readers = [user for user in users if _multiplies(user, kind.channels)]
        storage, reasons[name] = _narrowest(kind, readers, machine)
        small = kind.channels <= SMALL_BLOCK and storage != "words" and bool(users) and len(readers) == len(users)
        small = small and name not in program.outputs and not isinstance(program[name], MaxPool)
        block = SMALL_BLOCK if small and name in [step.name for step in program.inputs] else BLOCK
        found[name] = Map(images, kind.channels, height, width, storage, block)
    return found, reasons


def _narrowest(kind: TensorType, readers: Sequence[Instruction], machine: Machine) -> tuple[str, str]:
    """How to store a map, and what forbids to store it narrower."""
    low, high, limits = int(kind.low.min()), int(kind.high.max()), np.iinfo(np.int16)
    interval = f"its input is {low:,} .. {high:,}"
    if not machine.narrow:
        return "words", "the machine adds no products of narrower integers"
    if low < limits.min or high > limits.max:
        return "words", f"{interval}, and halves hold {limits.min:,} .. {limits.max:,}"
    reason = f"{interval}, and bytes hold 0 .. 255"
    if 0 <= low and high <= 255:
        reason = next(filter(None, (_against_bytes(user, high, machine) for user in readers)), "")
    return next(s for s in (*machine.narrow, "words") if s != "bytes" or not reason), reason


def _multiplies(step: Instruction, channels: int) -> bool:
    return isinstance(step, (Conv, Dense)) and not is_depthwise(step, channels)


def weights_of(step: Instruction) -> NDArray[np.int64]:
    assert isinstance(step, (Conv, Dense))
    weight = step.weight if isinstance(step, Conv) else step.weight[None, None]
    return np.asarray(weight.transpose(3, 2, 0, 1))


def _against_bytes(step: Instruction, highest: int, machine: Machine) -> str:
    """Why sums of bytes are not faster than sums of halves, with the tiles that must be split for them to be exact."""
    weight = weights_of(step)
    if not holds(weight, "bytes"):
        return f"the weights of '{step.name}' are {weight.min():,} .. {weight.max():,}, and bytes hold -128 .. 127"
    if machine.dot:
        return ""
    encoded = tiles.from_dense(words_of(weight, "bytes"), BLOCK, 4)  # type: ignore[arg-type]
    split, whole = len(prove(encoded, Sums("bytes", 1), highest).index), len(encoded.index)
    if split < WORTH * max(1, whole):
        return ""
    return f"so that no 16-bit sum of bytes overflows, '{step.name}' would need {split:,} weight tiles, not {whole:,}"


def storage_for(window: Window, source: Map, machine: Machine) -> str:
    """How the kernel needs its input: as it is stored, or wider where the weights are wider."""
    if window.lanewise:
        return source.storage
    ladder = [*machine.narrow, "words"]
    wider = ladder[ladder.index(source.storage) :]
    return next(storage for storage in wider if holds(window.weight, storage))


def plan_sum(
    window: Window, source: Map, target: Map, highest: int, residual: bool, machine: Machine, options: Options
) -> tuple[Plan, list[SumChoice]]:
    """The tables of a kernel that reads `source` as it is stored, and the choices, of which the first was taken;
    `highest` is the greatest input."""
    forms = [Sums("words")] if window.lanewise else forms_of(machine, source.storage, window.weight, highest)
    dense = window.combine != "multiply" or options.encoding == "dense"
    view = source.view(words=not window.lanewise)
    image_bytes = 4 * source.pixels * source.blocks * source.words
    choices = ranked(
        window.weight, window.axes, machine, forms, highest, window.lanewise, source.words, image_bytes,
        source.images, options.threads, dense,
    )  # fmt: skip
    choice = choices[0]
    tiles_of = cover(window.axes, choice.height, choice.width)
    if choice.sums.less:
        tiles_of = tuple(replace(tile, rects=tuple(rect or NOWHERE for rect in tile.rects)) for tile in tiles_of)
    plan = plan_conv(
        choice.encoded,
        machine.lanes,
        choice.vectors,
        tiles_of,
        view,
        target.view(),
        batch=source.images,
        lanewise=window.lanewise,
        residual="before" if residual else "",
        threads=choice.threads,
        group=choice.group,
        prefetch=ahead(choice.encoded.values.nbytes, machine.lanes, choice.height * choice.width),
        accumulators=16 if choice.sums.kind == "dot" else 1,
        combine=window.combine,
    )
    return replace(plan, weights=choice.sums.stored(plan.weights)), choices


def made_up(window: Window, sums: Sums) -> NDArray[np.int32]:
    """The bias, raised by what the sums lack: `less` is taken from every input, from the zeros of the border too.
    Beyond 32 bits it wraps around, as the sums do, and what they come to is right."""
    lacking = sums.less * window.weight.sum(axis=(1, 2, 3)) if sums.less else 0
    return (window.bias + lacking).astype(np.int32)
