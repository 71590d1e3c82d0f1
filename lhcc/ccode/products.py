"""Sums of products of narrower lanes, which integer layers are made of, by the instructions that there are for them.

madd: each lane is the sum of the products of as many narrower lanes as fit into it, the first factor being unsigned
where these are bytes.  dot4: the same of four bytes, added to a third vector; sdot4: of signed bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from lhcc.ccode.types import Type

PRODUCTS = ("madd", "dot4", "sdot4")


@dataclass(frozen=True)
class Instruction:
    """Where processors have it, its name in C, and the types of its operands there."""

    guard: str
    name: str
    operands: tuple[str, ...]


SSE, AVX, AVX512 = "__m128i", "__m256i", "__m512i"  # of x86, where a register of integers has no lanes
NEON = ("int32x4_t", "uint8x16_t", "int8x16_t")  # of ARM, whose operands have types of lanes
NEON_SIGNED = ("int32x4_t", "int8x16_t", "int8x16_t")

# operation, element of the result, bytes of it
INSTRUCTIONS = {
    ("madd", "int16", 16): Instruction("defined(__SSSE3__)", "_mm_maddubs_epi16", (SSE,) * 2),
    ("madd", "int16", 32): Instruction("defined(__AVX2__)", "_mm256_maddubs_epi16", (AVX,) * 2),
    ("madd", "int16", 64): Instruction("defined(__AVX512BW__)", "_mm512_maddubs_epi16", (AVX512,) * 2),
    ("madd", "int32", 16): Instruction("defined(__SSE2__)", "_mm_madd_epi16", (SSE,) * 2),
    ("madd", "int32", 32): Instruction("defined(__AVX2__)", "_mm256_madd_epi16", (AVX,) * 2),
    ("madd", "int32", 64): Instruction("defined(__AVX512BW__)", "_mm512_madd_epi16", (AVX512,) * 2),
    ("dot4", "int32", 16): Instruction("defined(__ARM_FEATURE_MATMUL_INT8)", "vusdotq_s32", NEON),
    ("sdot4", "int32", 16): Instruction("defined(__ARM_FEATURE_DOTPROD)", "vdotq_s32", NEON_SIGNED),
    ("dot4", "int32", 32): Instruction(
        "defined(__AVX512VNNI__) && defined(__AVX512VL__)", "_mm256_dpbusd_epi32", (AVX,) * 3
    ),
    ("dot4", "int32", 64): Instruction("defined(__AVX512VNNI__)", "_mm512_dpbusd_epi32", (AVX512,) * 3),
}


def products(operation: str, kind: Type, other: Type, gnu: bool) -> str:
    """The helper that gives a vector of `kind` from two of `other`."""
    v, o, name = kind.c, other.c, f"{kind.short}_{operation}_{other.short}"
    accumulates = operation != "madd"
    total = f"{v} t, " if accumulates else ""
    head = f"INLINE {v} {name}({total}{o} a, {o} b) {{\n"
    plain = _lane_by_lane(operation, kind, other, "" if gnu else ".lane")
    instruction = INSTRUCTIONS.get((operation, kind.element, kind.lanes * kind.size))
    if not gnu or instruction is None:
        return f"{head}{plain}}}\n"
    names = ("t", "a", "b") if accumulates else ("a", "b")
    operands = ", ".join(f"({of}){x}" for of, x in zip(instruction.operands, names, strict=True))
    call = f"    return ({v}){instruction.name}({operands});\n"
    return f"{head}#if {instruction.guard}\n{call}#else\n{plain}#endif\n}}\n"


def _lane_by_lane(operation: str, kind: Type, other: Type, lane: str) -> str:
    """The body as any compiler understands it; `lane` is the member of a vector that holds its numbers."""
    parts = other.lanes // kind.lanes
    first = "(uint8_t)" if other.size == 1 and operation != "sdot4" else ""
    terms = " + ".join(f"{first}a{lane}[{parts} * i + {k}] * b{lane}[{parts} * i + {k}]" for k in range(parts))
    cast = f"({kind.scalar.c})" if kind.size < 4 else ""
    declared, result, sign = (f"    {kind.c} r;\n", "r", "=") if operation == "madd" else ("", "t", "+=")
    loop = f"    for (int i = 0; i < {kind.lanes}; ++i)\n        {result}{lane}[i] {sign} {cast}({terms});\n"
    return f"{declared}{loop}    return {result};\n"
