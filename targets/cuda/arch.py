"""What the target's arguments say: a GPU generation, the numbers to compute with, and what follows from both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from lhcc.errors import TargetError

BLOCK = 32  # channels that lie together in a feature map: the depth of every weight tile
STEP = 32  # bytes of depth that one matrix instruction consumes, whatever the numbers are


def size_of(element: str) -> int:
    return {"bfloat16": 2}.get(element) or np.dtype(element).itemsize


@dataclass(frozen=True)
class Arithmetic:
    """How sums of products are formed: sums, biases and epilogues are fp32, or int32 where all numbers are integers.

    Fragments are the registers of one lane: `a` of 16 pixels x one step of depth, `b` of one step x 8 outputs.
    """

    name: str  # of the device function: multiply_<name>
    element: str  # of feature maps
    a: int = 4
    b: int = 2
    preload: bool = True  # the weights of the next tile are fetched into registers while this one is multiplied

    @property
    def size(self) -> int:
        return size_of(self.element)

    @property
    def sum(self) -> str:
        return "int32" if "int" in self.element else "float32"

    @property
    def weight(self) -> str:
        """The element of weights."""
        return "int8" if self.element == "uint8" else self.element

    @property
    def steps(self) -> int:
        """Steps of depth in one weight tile."""
        return BLOCK * self.size // STEP


TENSOR = {
    "fp16": Arithmetic("f16", "float16"),
    "bf16": Arithmetic("bf16", "bfloat16"),
    "tf32": Arithmetic("tf32", "float32"),
    # three tf32 products of the high and low halves of the factors: as exact as fp32 for all that a sum of them shows
    "fp32": Arithmetic("f32", "float32"),
}
FMA = Arithmetic("fma", "float32", a=16, b=16, preload=False)
# by the element of the map that is read; what is wider than a byte is multiplied in ordinary registers
INTEGERS = {
    "uint8": Arithmetic("u8", "uint8"),
    "int8": Arithmetic("s8", "int8"),
    "int32": Arithmetic("words", "int32", a=16, b=16, preload=False),
}
PRECISIONS = (*TENSOR, "int8")


@dataclass(frozen=True)
class Arch:
    """A compute capability."""

    number: int

    @property
    def name(self) -> str:
        return f"sm_{self.number}"

    @property
    def shared(self) -> int:
        """Bytes of shared memory that one thread block may take."""
        return {75: 64, 80: 163, 86: 99, 87: 163, 89: 99}.get(self.number, 227 if self.number < 120 else 99) << 10

    @property
    def processors(self) -> int:
        """Multiprocessors of a typical card: answers do not depend on it."""
        return {75: 40, 80: 108, 86: 84, 87: 16, 89: 142, 90: 132}.get(self.number, 148)

    def arithmetic(self, precision: str) -> Arithmetic:
        if self.number < 80 and precision == "fp32":
            return FMA
        return TENSOR[precision]


@dataclass(frozen=True)
class Machine:
    """A GPU generation and a precision."""

    arch: Arch
    precision: str

    @property
    def arithmetic(self) -> Arithmetic:
        """That of floats."""
        return self.arch.arithmetic(self.precision)


def create(arguments: Mapping[str, str]) -> Machine:
    """`arch=sm_90,precision=fp16`; without them sm_80 and fp32."""
    known = ("arch", "precision")
    for name in arguments:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"its arguments are {', '.join(known)}"
            raise TargetError(f"target 'cuda' has no argument '{name}'", hint)
    text, precision = arguments.get("arch", "sm_80"), arguments.get("precision", "fp32")
    match = re.fullmatch(r"sm_(\d{2,3})", text)
    if not match or int(match[1]) < 75:
        raise TargetError(
            f"'{text}' is no GPU architecture that lhcc compiles for", "sm_75, sm_80, sm_86, sm_89, sm_90"
        )
    if precision not in PRECISIONS:
        raise TargetError(f"precision '{precision}' is unknown to target 'cuda'", f"choose {', '.join(PRECISIONS)}")
    arch = Arch(int(match[1]))
    if arch.number < 80 and precision in ("bf16", "tf32"):
        raise TargetError(f"{arch.name} has no matrix instructions for {precision}", "precision=fp16, or arch=sm_80")
    return Machine(arch, precision)
