"""The integer program: a short list of exact integer operations, the bit-exact reference of every target."""

from __future__ import annotations

from lhcc.integer.affine import Add, Conv, Dense, SumPool
from lhcc.integer.builder import Builder
from lhcc.integer.core import Instruction, TensorType, WidthError
from lhcc.integer.pointwise import Clip, Input, Piecewise, Requantise
from lhcc.integer.program import Program
from lhcc.integer.shape import Concat, Flatten, MaxPool

__all__ = [
    "Add",
    "Builder",
    "Clip",
    "Concat",
    "Conv",
    "Dense",
    "Flatten",
    "Input",
    "Instruction",
    "MaxPool",
    "Piecewise",
    "Program",
    "Requantise",
    "SumPool",
    "TensorType",
    "WidthError",
]
