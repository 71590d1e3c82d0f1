"""From a model to C: a folder for a C project, or a library of machine code with its header."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lhcc.ccode import native, project
from lhcc.ccode.compiler import Compiler, compiler_of
from lhcc.ccode.identifiers import RESERVED, identifier
from lhcc.ccode.network import Network, network
from lhcc.ccode.programs import Known
from lhcc.ccode.sizes import DoesNotLink, Sizes, measure
from lhcc.compiler import Source, make_options, read_model
from lhcc.errors import LhccError, TargetError, ToolMissing
from lhcc.integer import Program
from lhcc.runtime.files import ELSEWHERE, OutputError, atomic_write, scratch, writable
from lhcc.runtime.footprint import Budget, Footprint
from lhcc.targets import base

FORMS = ("c", "so", "a")
WEIGHTS = ("array", "binary")


@dataclass(frozen=True)
class Emitted:
    """What was written, and the memory that it needs."""

    output: str
    files: tuple[str, ...]
    name: str
    arena_bytes: int
    weight_bytes: int
    layers: int
    sizes: Sizes | None = None  # for a board without an operating system
    unmeasured: str = ""  # why there are none

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        memory = f"{self.arena_bytes:,} bytes of arena, {self.weight_bytes:,} bytes of weights"
        text = f"{self.output}: {', '.join(self.files)}; {self.layers} layers, {memory}"
        if self.sizes:
            text += f"\n{self.sizes}"
        return f"{text}\nstack and code were not measured: {self.unmeasured}" if self.unmeasured else text


def emit(
    model: Any,
    output: str | os.PathLike[str],
    form: str = "c",
    *,
    target: str = "cpu",
    name: str | None = None,
    weights: str = "array",
    inputs: Any = None,
    input_shapes: Mapping[str, Any] | None = None,
    options: Mapping[str, Any],
) -> Emitted:
    """Writes `output`: for "c" a folder, for "so" and "a" a library, with its header beside it."""
    path = Path(output)
    _check(form, weights)
    name = _name(name, path, form)
    if form == "c":
        _writable_folder(path)
    else:
        writable(path)
    chosen, parsed = make_options(options), base.parse(target)
    if parsed.name != "cpu":
        raise TargetError(f"target '{parsed.name}' has no C", "choose cpu or a preset: lhcc targets")
    source = read_model(model, parsed, chosen, inputs, input_shapes)
    compiler = compiler_of(source.target)
    if form != "c":
        compiler.find()  # a missing compiler is told before the work
    if compiler.bare and form == "so":
        raise TargetError("there are no shared libraries without an operating system", "use --emit a, or --emit c")
    if compiler.bare and weights == "binary":
        raise TargetError("without an operating system there is no file of weights", "use --weights array")
    net = network(name, source.lower(), source.output_names)
    budget = Budget(*chosen.limits(getattr(source.target, "board", None)))
    budget.check(net.footprint)
    sizes, unmeasured = None, ""
    if form == "c":
        flat = weights == "binary"
        with _folder(path) as inside:
            for file, parts in project.files(net, _known(source), compiler, flat).items():
                _write(inside / file, parts)
            if compiler.bare:
                sizes, unmeasured = _measured(inside, net, compiler)
            if sizes:
                budget.check(replace(net.footprint, code=sizes.code, stack=sizes.stack))
            _write(inside / "README.md", [project.readme(net, compiler, flat, sizes)])
            names = tuple(sorted(file.name for file in inside.iterdir()))
    else:
        with scratch() as folder:
            library = native.compile_library(net, compiler, form == "so", source.options.threads, folder)
            header = path.with_name(f"{name}.h")
            for made, wanted in ((folder / header.name, header), (library, path)):
                with atomic_write(wanted) as opened:
                    opened.write(made.read_bytes())
        names = (header.name,)
    return Emitted(str(path), names, name, net.arena, net.weight_bytes, len(net.layers), sizes, unmeasured)


def memory(
    model: Any, target: str, *, input_shapes: Mapping[str, Any] | None = None, options: Mapping[str, Any]
) -> Footprint:
    """What `emit` would plan for a target: arena and weights by layer."""
    source = read_model(model, base.parse(target), make_options(options), None, input_shapes)
    return network("net", source.lower(), source.output_names).footprint


def _measured(folder: Path, net: Network, compiler: Compiler) -> tuple[Sizes | None, str]:
    """What a build of the folder tells, or why it tells nothing."""
    with scratch() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        try:
            return measure(copy, net.name, compiler), ""
        except (ToolMissing, DoesNotLink) as problem:
            return None, " ".join(str(problem).split())


def _check(form: str, weights: str) -> None:
    if form not in FORMS:
        raise LhccError(f"'{form}' is nothing that can be emitted", f"choose {', '.join(FORMS)}")
    if weights not in WEIGHTS:
        raise LhccError(f"'{weights}' is no form of weights", f"choose {', '.join(WEIGHTS)}")
    if weights == "binary" and form != "c":
        raise LhccError("a library holds its weights", "leave out --weights")


def _name(name: str | None, path: Path, form: str) -> str:
    """The user's name, or one from that of the output."""
    if name is None:
        wish = path.stem.removeprefix("lib") if form != "c" else path.resolve().name
        made = identifier(wish)
        return f"{made}_net" if made in RESERVED else made
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII) or name in RESERVED:
        raise LhccError(f"'{name}' is no identifier of C", f"such as --name {identifier(name).strip('_') or 'net'}")
    return name


def _known(source: Source) -> Known:
    """Random inputs, and what a reference that knows no kernels makes of them."""
    if source.program is not None:
        return _integers(source.program, source.images, source.options.io == "integer")
    from lhcc.ir.reference import Reference
    from lhcc.ir.verify import random_inputs

    inputs = random_inputs(source.mod, seed=0)
    return Known(inputs, Reference().run(source.mod, inputs))


def _integers(program: Program, images: int, integers: bool) -> Known:
    """Integers from the whole interval of every input."""
    rng = np.random.default_rng(0)
    types = [program.types[step.name] for step in program.inputs]
    given = [rng.integers(t.low, t.high + 1, (images, *t.shape)) for t in types]
    if integers:
        return Known([*map(_planar, given)], [*map(_planar, program.run(*given))])
    inputs = [(_planar(x) * t.scale).astype(np.float32) for x, t in zip(given, types, strict=True)]
    return Known(inputs, program.dequantise(*program.run(*program.quantise(*inputs))))


def _planar(values: Any) -> Any:
    """Channels first, as the user's images lie."""
    return np.moveaxis(values, -1, 1)


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A folder to fill, whose files take their place in `path` when the block ends well."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        yield part
        if path.is_dir():
            for file in part.iterdir():
                os.replace(file, path / file.name)
        else:
            os.replace(part, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}", ELSEWHERE) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _writable_folder(path: Path) -> None:
    """Fails before the work where the folder cannot be."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"cannot write {path}: it is a file", "name a folder")
    writable(path / "README.md" if path.is_dir() else path)


def _write(path: Path, parts: Any) -> None:
    if isinstance(parts, bytes):
        path.write_bytes(parts)
        return
    with open(path, "w") as file:
        file.writelines(parts)
