"""The C files of a network: header, code, weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lhcc.ccode.network import Constant, Network
from lhcc.ccode.types import Type, literal, parse

PER_LINE = 10

PRELUDE = """\
#if defined(__GNUC__)
#define ALIGNED __attribute__((aligned(64)))
#define RESTRICT __restrict__
#define KERNEL static __attribute__((noinline)) void
#define EXPORT __attribute__((visibility("default")))
#else
#define ALIGNED
#define RESTRICT restrict
#define KERNEL static void
#define EXPORT
#endif
#if defined(__GNUC__) && !defined(LHCC_PORTABLE)
#define INLINE static inline __attribute__((always_inline, unused))
#else
#define INLINE static inline
#endif
"""
PREFETCH = """\
#if defined(__GNUC__)
#define PREFETCH(array, index) \\
    __builtin_prefetch((const void *)((uintptr_t)(array) + (uintptr_t)(index) * sizeof *(array)), 0, 3)
#else
#define PREFETCH(array, index) ((void)0)
#endif
"""


def describe(net: Network) -> str:
    """Inputs and outputs, as lines of a comment."""
    groups = (("reads", net.inputs), ("writes", net.outputs))
    return "\n".join(
        f"   {way} {port.name}: {port.kind.c}[{']['.join(map(str, port.spec.shape))}]"
        for way, group in groups
        for port in group
    )


def context(net: Network, flat: bool) -> str:
    """What the type that holds the arena is made of."""
    weights = "    const unsigned char *weights;\n" if flat else ""
    arena = f"        double align;\n        unsigned char bytes[{max(1, net.arena)}];\n"
    return f"{{\n{weights}    union {{\n{arena}    }} arena;\n}}"


def header(net: Network, flat: bool) -> str:
    name, upper = net.name, net.name.upper()
    opening = f"""\
/* Gives the network its weights, the content of {name}_weights.bin at an address that 8 divides.
   Returns 0, or -1 if `bytes` is not {upper}_WEIGHT_BYTES. */
int {name}_open({name}_context *context, const void *weights, size_t bytes);

"""
    return f"""\
/* The network {name}.
{describe(net)} */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_ARENA_BYTES {net.arena}
#define {upper}_WEIGHT_BYTES {net.weight_bytes}

/* All that a run writes to beside its outputs.  Runs with different contexts may happen at the same time; wide vectors
   are fastest in a context whose address 64 divides. */
typedef struct {context(net, flat)} {name}_context;

{opening if flat else ""}{net.signature()};

#ifdef __cplusplus
}}
#endif

#endif
"""


def code(net: Network, flat: bool, definitions: str = "") -> Iterator[str]:
    """The text of the C file, in parts; `definitions` follow the header."""
    name = net.name
    text = net.text()
    yield f'#include "{name}.h"\n\n'
    if any(word in text for word in ("INFINITY", "NAN", "f(", "floor(", "sqrt(", "exp(")):
        yield "#include <math.h>\n"
    if "memcpy" in text:
        yield "#include <string.h>\n"
    if "(__m" in text:
        yield "#ifdef __SSE2__\n#include <immintrin.h>\n#endif\n"
    if "(int32x4_t)" in text:
        yield "#ifdef __ARM_NEON\n#include <arm_neon.h>\n#endif\n"
    yield f"{definitions}\n{PRELUDE}"
    if "PREFETCH(" in text:
        yield PREFETCH
    if not flat:
        yield "\n" + "".join(f"extern {_declaration(c)};\n" for c in net.constants)
    yield "\n" + net.helpers.text()
    for kernel in net.kernels:
        yield f"\n{kernel.text}"
    if flat:
        yield (
            f"\nEXPORT int {name}_open({name}_context *context, const void *weights, size_t bytes)\n{{\n"
            f"    context->weights = (const unsigned char *)weights;\n"
            f"    return bytes == {name.upper()}_WEIGHT_BYTES ? 0 : -1;\n}}\n"
        )
    yield f"\nEXPORT {net.signature()}\n{{\n"
    if any("arena" in call for call in net.calls):
        yield "    unsigned char *const arena = context->arena.bytes;\n"
    elif not (flat and net.constants):
        yield "    (void)context;\n"
    for constant in net.constants if flat else ():
        c, place = parse(constant.values.dtype).c, f"context->weights + {constant.offset}"
        yield f"    const {c} *const {constant.name} = (const {c} *)(const void *)({place});\n"
    yield "".join(f"    {call}\n" for call in net.calls) + "}\n"


def weights(net: Network) -> Iterator[str]:
    """The text of the file of constant arrays, in parts."""
    yield f'#include "{net.name}.h"\n\n#include <math.h>\n\n{PRELUDE}\n'
    for constant in net.constants:
        yield f"extern {_declaration(constant)};\n{_declaration(constant)} ALIGNED = {{\n"
        yield from numbers(constant.values)
        yield "};\n\n"


def numbers(values: np.ndarray) -> Iterator[str]:
    """The elements of an array, ten to a line."""
    kind, flat = parse(values.dtype), values.reshape(-1)
    if flat.size == 0:
        yield "    0\n"
    form = {"float32": "%#.9g", "float64": "%#.17g"}.get(kind.element, "%d")
    plain = _is_plain(flat, kind)
    line = f"    {', '.join([form] * PER_LINE)},\n"
    for start in range(0, flat.size, PER_LINE):
        part = flat[start : start + PER_LINE].tolist()
        if plain and len(part) == PER_LINE:
            yield line % tuple(part)
        else:
            yield "    " + ", ".join(literal(value, kind) for value in part) + ",\n"


def _is_plain(values: np.ndarray, kind: Type) -> bool:
    """Whether all of them are literals of C as Python's formatting writes them."""
    if kind.is_float:
        return bool(np.isfinite(values).all())
    return kind.size <= 4 and int(values.min(initial=0)) > -(1 << 31)


def _declaration(constant: Constant) -> str:
    return f"const {parse(constant.values.dtype).c} {constant.name}[{max(1, constant.values.size)}]"
