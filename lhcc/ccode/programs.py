"""Two programs that use a network: one that prints what it gives, one that compares that with what it should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.ccode import source
from lhcc.ccode.network import Network, Port

Array = NDArray[Any]
TOLERANCE = "1e-5"  # 2-norm, relative


@dataclass(frozen=True)
class Known:
    """Inputs, and what the network makes of them."""

    inputs: Sequence[Array]
    outputs: Sequence[Array]


def size(port: Port) -> int:
    return prod(port.spec.shape)


def call(net: Network) -> str:
    """The network run on variables that are called like its inputs and outputs."""
    return f"{net.name}_run({', '.join(['&context', *(p.name for p in (*net.inputs, *net.outputs))])})"


def _main(net: Network, flat: bool) -> str:
    """What example and test begin with: includes, the context, and how weights get there."""
    text = f'#include "{net.name}.h"\n\n#include <math.h>\n#include <stdio.h>\n\nstatic {net.name}_context context;\n'
    if flat:
        upper = net.name.upper()
        text += f"""\
static double weights[({upper}_WEIGHT_BYTES + 7) / 8];

static int open_weights(void)
{{
    FILE *file = fopen("{net.name}_weights.bin", "rb");
    const size_t got = file ? fread(weights, 1, sizeof weights, file) : 0;
    if (file)
        fclose(file);
    return {net.name}_open(&context, weights, got);
}}
"""
    return text


def _opening(flat: bool) -> str:
    return """\
    if (open_weights() != 0) {
        fprintf(stderr, "the file of weights cannot be read\\n");
        return 1;
    }
""" if flat else ""  # fmt: skip


def example(net: Network, flat: bool) -> str:
    arrays = "".join(f"static {p.kind.c} {p.name}[{size(p)}];\n" for p in (*net.inputs, *net.outputs))
    reads = "".join(
        f"    read_file(argc, argv, {number}, {p.name}, sizeof {p.name});\n" for number, p in enumerate(net.inputs, 1)
    )
    prints = "".join(
        f"    for (size_t i = 0; i < {size(p)}; ++i)\n"
        f'        printf("{p.name}[%lu] = %g\\n", (unsigned long)i, (double){p.name}[i]);\n'
        for p in net.outputs
    )
    names = " ".join(f"[{p.name.upper()}.bin]" for p in net.inputs)
    return f"""\
/* Runs the network once and prints what it gives.
   usage: example {names}
   A file holds the numbers of an input as they lie in memory; without one they are zeros. */
{_main(net, flat)}
{arrays}
static void read_file(int argc, char **argv, int number, void *data, size_t bytes)
{{
    FILE *file = number < argc ? fopen(argv[number], "rb") : NULL;
    if (number < argc && (!file || fread(data, 1, bytes, file) != bytes))
        fprintf(stderr, "%s cannot be read, or is too short\\n", argv[number]);
    if (file)
        fclose(file);
}}

int main(int argc, char **argv)
{{
{_opening(flat)}{reads}    {call(net)};
{prints}    return 0;
}}
"""


def test(net: Network, known: Known, flat: bool) -> Iterator[str]:
    yield f"/* Runs the network on a known input and compares. */\n{_main(net, flat)}\n"
    for port, values in zip(net.inputs, known.inputs, strict=True):
        yield f"static const {port.kind.c} {port.name}[{size(port)}] = {{\n"
        yield from source.numbers(np.asarray(values).astype(port.spec.dtype))
        yield "};\n"
    for port, values in zip(net.outputs, known.outputs, strict=True):
        yield f"static const {port.kind.c} {port.name}_expected[{size(port)}] = {{\n"
        yield from source.numbers(np.asarray(values).astype(port.spec.dtype))
        yield f"}};\nstatic {port.kind.c} {port.name}[{size(port)}];\n"
    yield f"\nint main(void)\n{{\n    int wrong = 0;\n{_opening(flat)}    {call(net)};\n"
    for port in net.outputs:
        yield _compare(port)
    yield '    printf(wrong ? "FAILED\\n" : "passed\\n");\n    return wrong;\n}\n'


def _compare(port: Port) -> str:
    name, count = port.name, size(port)
    if not port.kind.is_float:
        return f"""\
    {{
        long differ = 0;
        for (size_t i = 0; i < {count}; ++i)
            differ += {name}[i] != {name}_expected[i];
        printf("{name}: %ld of {count} numbers differ\\n", differ);
        wrong |= differ != 0;
    }}
"""
    return f"""\
    {{
        double error = 0, norm = 0;
        for (size_t i = 0; i < {count}; ++i) {{
            const double difference = (double){name}[i] - (double){name}_expected[i];
            error += difference * difference;
            norm += (double){name}_expected[i] * (double){name}_expected[i];
        }}
        printf("{name}: relative error %.1e\\n", norm > 0 ? sqrt(error / norm) : sqrt(error));
        wrong |= !(error <= {TOLERANCE} * {TOLERANCE} * (norm > 0 ? norm : 1));
    }}
"""
