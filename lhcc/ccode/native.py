"""A library of machine code with a C interface of three functions: create, run, destroy."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lhcc.ccode import source
from lhcc.ccode.compiler import Compiler
from lhcc.ccode.network import Network, flat_weights
from lhcc.report.progress import report

WEIGHTS = "weights.bin"


def header(net: Network) -> str:
    name, upper = net.name, net.name.upper()
    return f"""\
/* The network {name}.
{source.describe(net)} */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/* What a run needs beside its arguments.  Runs with different contexts may happen at the same time. */
typedef struct {name}_context {name}_context;

{name}_context *{name}_create(void); /* NULL if there is no memory */
{net.signature()};
void {name}_destroy({name}_context *context); /* NULL is fine */

#ifdef __cplusplus
}}
#endif

#endif
"""


def _lifetime(net: Network) -> str:
    name = net.name
    return f"""
#include <stdlib.h>

EXPORT {name}_context *{name}_create(void)
{{
    /* on a cache line of its own; the byte before it says how far it is from what malloc gave */
    unsigned char *const raw = malloc(sizeof({name}_context) + 64);
    if (!raw)
        return NULL;
    unsigned char *const place = raw + 64 - (uintptr_t)raw % 64;
    place[-1] = (unsigned char)(place - raw);
    return ({name}_context *)(void *)place;
}}

EXPORT void {name}_destroy({name}_context *context)
{{
    if (context) {{
        unsigned char *const place = (unsigned char *)context;
        free(place - place[-1]);
    }}
}}
"""


def compile_library(net: Network, compiler: Compiler, shared: bool, threads: int, folder: Path) -> Path:
    """Compiles in `folder`, which is the caller's to remove; returns the library there, beside its header."""
    gcc = compiler.find()
    inside = f"\nstruct {net.name}_context {source.context(net, flat=False)};\n"
    (folder / f"{net.name}.h").write_text(header(net))
    code, weights = folder / f"{net.name}.c", folder / "weights.S"
    code.write_text("".join([*source.code(net, flat=False, definitions=inside), _lifetime(net)]))
    (folder / WEIGHTS).write_bytes(flat_weights(net).tobytes())
    weights.write_text(_weights(net))
    flags = ["-std=c99", "-O3", "-ffp-contract=fast", *compiler.flags, *(["-fopenmp"] if threads > 1 else [])]
    flags += [] if compiler.bare else ["-fPIC", "-fvisibility=hidden"]
    for number, path in enumerate((code, weights)):
        report("compiling C", number, 2)
        _run([gcc, *flags, "-c", path.name], folder)
    report("compiling C", 2, 2)
    objects = [f"{net.name}.o", "weights.o"]
    library = folder / f"lib{net.name}.{'so' if shared else 'a'}"
    if shared:
        _run([gcc, *flags, "-shared", "-s", "-o", library.name, *objects, "-lm"], folder)
    else:
        archiver = str(Path(gcc).with_name(compiler.archiver)) if compiler.tools else "ar"
        _run([archiver, "rcs", library.name, *objects], folder)
    return library


def _weights(net: Network) -> str:
    """Assembly that takes the arrays from a file: megabytes of numbers as text take compilers minutes."""
    arrays = "".join(
        f"    .balign 64\n    .globl {c.name}\n    .hidden {c.name}\n{c.name}:\n"
        f'    .incbin "{WEIGHTS}", {c.offset}, {c.values.nbytes}\n'
        for c in net.constants
    )
    return f'    .section .rodata\n{arrays}    .section .note.GNU-stack, "", %progbits\n'


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the compiler failed: {' '.join(command)}\n{done.stderr}")
