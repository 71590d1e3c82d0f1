"""Commands that read a model and write or tell something about it."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from lhcc.cli.options import (
    chosen_options,
    compiled,
    emitted,
    input_shapes,
    is_artifact,
    is_simulated,
    refuse_changes,
    show,
    tell,
)
from lhcc.errors import InputError


def inspect(options: argparse.Namespace) -> None:
    import lhcc
    from lhcc.runtime.library import import_tvm

    if is_artifact(options):
        from lhcc.runtime import artifact, footprint

        if options.target or options.input_shape or options.precision != "fp32":
            raise InputError(f"{options.model} is compiled already", "its memory is told without further options")
        show(options, footprint.of_program(artifact.read(options.model, for_any_machine=True)[0]))
        return
    import_tvm()
    report = lhcc.inspect(options.model, input_shapes=input_shapes(options))
    if not options.target:
        show(options, report)
        return
    memory = _memory(options)
    tell(options, {**report.json(), "memory": memory.json()}, f"{report}\n\n{memory}")


def _memory(options: argparse.Namespace) -> Any:
    """What the model needs on the target: as C where nothing else runs there."""
    import lhcc
    from lhcc.runtime import footprint
    from lhcc.targets import base

    board = getattr(base.parse(options.target), "board", None)
    chosen = {"precision": options.precision}
    if board is not None and "artifact" not in board.forms:
        from lhcc.ccode.emit import memory

        return memory(options.model, options.target, input_shapes=input_shapes(options), options=chosen)
    return footprint.of_program(
        lhcc.compile(options.model, options.target, input_shapes=input_shapes(options), **chosen).program
    )


def compile_(options: argparse.Namespace) -> None:
    from lhcc.runtime.files import writable

    started = time.perf_counter()
    if options.emit:
        show(options, emitted(options))
        return
    if options.name or options.weights:
        raise InputError("an artifact has no names of C and no form of weights", "add --emit c")
    if is_simulated(options) and not str(options.output).endswith(".lhcc"):
        design = compiled(options).export(options.output)
        files = sorted(path.name for path in design.iterdir())
        tell(options, {"output": str(design), "files": files}, f"{design}: {', '.join(files)}")
        return
    writable(options.output)
    executable = compiled(options)
    executable.save(options.output)
    facts = {
        "output": str(options.output),
        "bytes": Path(options.output).stat().st_size,
        "layers": len(executable.layers),
        "seconds": round(time.perf_counter() - started, 2),
    }
    text = "{output}: {bytes:,} bytes, {layers} layer{s}, compiled in {seconds} s".format(
        s="s" * (facts["layers"] != 1), **facts
    )
    tell(options, facts, text)


def why(options: argparse.Namespace) -> None:
    from lhcc.report.reasons import of_model, select, to_text

    if is_artifact(options):
        from lhcc.runtime import artifact

        refuse_changes(options)
        reasons: Any = artifact.reasons(options.model)
    else:
        reasons = of_model(options.model, options.target or "cpu", input_shapes(options), chosen_options(options))
    reasons = select(reasons, options.layer)
    tell(options, {"reasons": [vars(reason) for reason in reasons]}, to_text(reasons))


def approximate(options: argparse.Namespace) -> None:
    from lhcc.approximation import approximate
    from lhcc.runtime.files import atomic_write, writable

    writable(options.output)
    if options.plot:
        if Path(options.plot).suffix not in (".svg", ".png"):
            raise InputError(f"a chart cannot be written as '{options.plot}'", "name a file .svg or .png")
        writable(options.plot)
    named = ("set", "scale", "per", "max_error", "max_adds", "max_drop", "weight_bits", "bias_bits", "activation_error")
    chosen = {name: getattr(options, name) for name in named}
    dyadic = approximate(options.model, calibrate=options.calibrate, input_shapes=input_shapes(options), **chosen)
    if options.plot:
        dyadic.report.plot(options.plot)
    with atomic_write(options.output) as file:
        file.write(dyadic.model.SerializeToString())
    tell(options, json.loads(dyadic.report.to_json()), str(dyadic.report))


def import_lhc(options: argparse.Namespace) -> None:
    from lhcc.frontend.lhc_checkpoint import import_lhc
    from lhcc.runtime.files import atomic_write, writable

    writable(options.output)
    model = import_lhc(options.weights, options.arch, options.group_in, options.group_out, options.batch)
    with atomic_write(options.output) as file:
        file.write(model.SerializeToString())
    size = Path(options.output).stat().st_size
    tell(options, {"output": options.output, "bytes": size}, f"{options.output}: {size:,} bytes")
