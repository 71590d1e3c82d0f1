"""A folder with everything that a C project needs: code, header, weights, an example, a test, build files, a README."""

from __future__ import annotations

from collections.abc import Iterable

from lhcc.ccode import bare, programs, source
from lhcc.ccode.compiler import Compiler
from lhcc.ccode.network import Network, flat_weights
from lhcc.ccode.sizes import OPTIMISED, Sizes

Parts = Iterable[str] | bytes


def files(net: Network, known: programs.Known, compiler: Compiler, flat: bool) -> dict[str, Parts]:
    """Every file but the README by name; long ones in parts."""
    name = net.name
    found: dict[str, Parts] = {
        f"{name}.h": [source.header(net, flat)],
        f"{name}.c": source.code(net, flat),
        "example.c": [programs.example(net, flat)],
        "test.c": programs.test(net, known, flat),
        "Makefile": [_makefile(net, compiler, flat)],
        "CMakeLists.txt": [_cmake(net, compiler, flat)],
    }
    if flat:
        found[f"{name}_weights.bin"] = flat_weights(net).tobytes()
    else:
        found[f"{name}_weights.c"] = source.weights(net)
    if compiler.bare:
        found["startup.c"] = [bare.STARTUP]
        found["memory.ld"] = [bare.linker_script(compiler.board)]
    return found


def _makefile(net: Network, compiler: Compiler, flat: bool) -> str:
    name, run = net.name, ""
    objects = f"{name}.o" + ("" if flat else f" {name}_weights.o")
    startup, link, runner, sections = "", "-lm", "", ""
    if compiler.bare:
        startup, run, sections = " startup.o", "$(RUN) ", f" {bare.SECTIONS}"
        link = f"-nostartfiles -T memory.ld -Wl,--gc-sections,-Map=$@.map {bare.LINK} -lm"
        runner = f"RUN ?= {bare.emulation(compiler.board)}\n"
    elif compiler.emulator:
        run, emulator = "$(RUN) ", f"$(shell command -v {compiler.emulator} {compiler.emulator}-static)"
        runner = (
            f"ifneq ($(shell uname -m),{compiler.arch})\n"
            f"RUN ?= $(firstword {emulator}) -L /usr/{compiler.tools}\nendif\n"
        )
    return f"""\
# make            the library lib{name}.a, and an example that runs the network once
# make test       runs the network on a known input
# make OPENMP=1   with threads, if the network was compiled for several
ifeq ($(origin CC),default)
CC = {compiler.command}
endif
ifeq ($(origin AR),default)
AR = {compiler.archiver}
endif
CFLAGS ?= {OPTIMISED}
TARGET ?= {" ".join(compiler.flags)}
WARNINGS = -Wall -Wextra -Wno-psabi
FLAGS = -std=c99 -ffp-contract=fast{sections} $(WARNINGS) $(TARGET) $(CFLAGS) $(if $(OPENMP),-fopenmp)
LINK = {link}
{runner}
all: lib{name}.a example

lib{name}.a: {objects}
	$(AR) rcs $@ {objects}

example: example.o{startup} lib{name}.a
	$(CC) $(FLAGS) -o $@ $^ $(LINK)

test.out: test.o{startup} lib{name}.a
	$(CC) $(FLAGS) -o $@ $^ $(LINK)

test: test.out
	{run}./test.out

%.o: %.c {name}.h
	$(CC) $(FLAGS) -c -o $@ $<

clean:
	rm -f *.o *.a *.map example test.out

.PHONY: all test clean
"""


def _cmake(net: Network, compiler: Compiler, flat: bool) -> str:
    sources = f"{net.name}.c" + ("" if flat else f" {net.name}_weights.c")
    startup = " startup.c" if compiler.bare else ""
    options = f"add_compile_options({' '.join(compiler.flags)})\n" if compiler.flags else ""
    if compiler.bare:
        script = "-nostartfiles -T ${CMAKE_CURRENT_SOURCE_DIR}/memory.ld"
        options += f"add_compile_options({bare.SECTIONS})\n"
        options += f"add_link_options({' '.join(compiler.flags)} {script} -Wl,--gc-sections {bare.LINK})\n"
    copy = (
        f"configure_file({net.name}_weights.bin ${{CMAKE_CURRENT_BINARY_DIR}}/{net.name}_weights.bin COPYONLY)\n"
        if flat
        else ""
    )
    return f"""\
cmake_minimum_required(VERSION 3.13)
project({net.name} C)
set(CMAKE_C_STANDARD 99)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
{options}
add_library({net.name} STATIC {sources})
target_include_directories({net.name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
target_compile_options({net.name} PRIVATE {OPTIMISED} -ffp-contract=fast)
target_link_libraries({net.name} PUBLIC m)

add_executable(example example.c{startup})
target_link_libraries(example {net.name})
add_executable({net.name}_test test.c{startup})
target_link_libraries({net.name}_test {net.name})
{copy}enable_testing()
add_test(NAME {net.name} COMMAND {net.name}_test)
"""


def readme(net: Network, compiler: Compiler, flat: bool, sizes: Sizes | None) -> str:
    declared = "".join(f"{p.kind.c} {p.name}[{programs.size(p)}];\n" for p in (*net.inputs, *net.outputs))
    weights = (
        f"The weights are in `{net.name}_weights.bin`: load the file at an address that 8 divides and call\n"
        f"`{net.name}_open(&context, weights, bytes)` once.\n"
        if flat
        else ""
    )
    floats = "" if net.uses_floats else "It computes with integers only: no floating-point unit is needed.\n"
    return f"""\
# {net.name}

A neural network as C99.  It needs nothing but a few functions of libc and libm, allocates nothing, and keeps everything
that it writes in the context that it is given: several contexts can be in use at the same time.
{floats}{weights}
```c
#include "{net.name}.h"

static {net.name}_context context;
{declared}
{programs.call(net)};
```

`make` builds the library and an example, `make test` checks the network on a known input; CMake does the same.
Compilers other than GCC and Clang get loops instead of vectors; `-DLHCC_PORTABLE` shows what these do.
{_bare_board(net, compiler) if compiler.bare else ""}
## Memory

| what | bytes |
|---|---|
| context (`{net.name.upper()}_ARENA_BYTES`) | {net.arena:,} |
| weights | {net.weight_bytes:,} |
{_measured(net, sizes) if sizes else ""}
| layer | operation | encoding | density | weights | context in use |
|---|---|---|---|---|---|
{_layers(net)}"""


def _bare_board(net: Network, compiler: Compiler) -> str:
    return f"""
## Without an operating system

A project of yours needs `{net.name}.c`, `{net.name}.h` and `{net.name}_weights.c` only.  `startup.c` and `memory.ld`
are for the example and the test: what happens before main, and where memory lies on {compiler.board.emulated}, which
QEMU emulates.  For another board write its addresses into `memory.ld`; `make test RUN=...` takes a command of yours
that runs a program there.
"""


def _measured(net: Network, sizes: Sizes) -> str:
    library = f"; what {', '.join(sizes.library)} need comes on top" if sizes.library else ""
    return f"""\
| code | {sizes.code:,} |
| stack of a run | {sizes.stack:,} |

Code and stack are those of {sizes.compiler} with {OPTIMISED}; the stack is that of the deepest calls,
{", ".join(f"`{name}`" for name in sizes.deepest)}{library}.
"""


def _layers(net: Network) -> str:
    return "".join(
        f"| {layer.name} | {layer.op} | {layer.encoding or '-'} | {layer.density:.3g} "
        f"| {memory.weights:,} | {memory.arena:,} |\n"
        for layer, memory in zip(net.layers, net.footprint.layers, strict=True)
    )
