"""The command line: parses, calls the library, prints.  What a command computes is decided elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhcc.cli_options import (
    chosen_options,
    compiled,
    emitted,
    executable_of,
    input_shapes,
    is_artifact,
    is_simulated,
    show,
    tell,
)
from lhcc.cli_parser import parser, target_with_limits
from lhcc.errors import InputError, LhccError, LhccWarning
from lhcc.report.progress import progress

MISTAKE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.  A user's mistake is one sentence and exit code 2; a bug of ours keeps its traceback."""
    options = parser().parse_args(arguments)
    options.target = target_with_limits(options)
    try:
        with progress(), warnings.catch_warnings():
            warnings.showwarning = _warn
            COMMANDS[options.command](options)
        sys.stdout.flush()
        return 0
    except LhccError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Shows the warnings that are for users of lhcc, not those of libraries to their programmers."""
    if issubclass(category, LhccWarning):
        print(f"warning: {message}", file=sys.stderr)


# --- commands --------------------------------------------------------------------------------------------------------


def inspect(options: argparse.Namespace) -> None:
    import lhcc
    from lhcc.runtime.library import import_tvm

    if is_artifact(options):
        from lhcc.runtime import artifact, footprint

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
    text = "{output}: {bytes:,} bytes, {layers} layers, compiled in {seconds} s".format_map(facts)
    tell(options, facts, text)


def run(options: argparse.Namespace) -> None:
    from lhcc.runtime import arrays
    from lhcc.runtime.files import writable

    if options.output:
        writable(options.output)
    executable = executable_of(options)
    if is_simulated(options):
        named = arrays.numbered(executable(*arrays.load_in_order(options.input)))
    else:
        inputs = arrays.load(options.input, executable.inputs) if options.input else executable.random_inputs()
        answer = _emulated(executable, inputs) if options.emulate else executable(*inputs)
        named = arrays.named(executable.outputs, answer)
    if options.output:
        arrays.save(options.output, named)
    tell(options, arrays.statistics(named), arrays.summary(named))
    if not options.input:
        print("the inputs were random numbers: --input FILE.npy or FILE.npz gives your own", file=sys.stderr)


def profile(options: argparse.Namespace) -> None:
    from lhcc.runtime.files import atomic_write, writable

    reports = {"csv": options.csv, "html": options.html, "trace": options.trace}
    for path in filter(None, reports.values()):
        writable(path)
    simulated = is_simulated(options)
    if simulated and options.trace:
        raise InputError("a simulation has no --trace", "--html draws its pipeline, --csv lists its figures")
    if options.emulate and (options.rpc or options.against or any(reports.values())):
        raise InputError(
            "emulated time is not a measurement: there is nothing to compare or to draw",
            "--emulate prints instruction counts, with --json as data",
        )
    measured = _profile_remotely(options) if options.rpc else _profile(options)
    for kind, path in reports.items():
        if path:
            text = (
                measured.html({} if simulated else _pictures(options)) if kind == "html" else getattr(measured, kind)()
            )
            with atomic_write(path) as file:
                file.write(text.encode())
    show(options, measured)


def tune(options: argparse.Namespace) -> None:
    from lhcc.runtime.files import writable
    from lhcc.runtime.library import import_tvm

    writable(options.database)
    import_tvm()
    from lhcc.tuning.tune import tune_model

    chosen = chosen_options(options)
    del chosen["tuning"]
    tuned = tune_model(
        options.model,
        options.target or "cpu",
        input_shapes=input_shapes(options),
        budget_s=options.budget,
        database=options.database,
        options=chosen,
        rpc=options.rpc,
        key=options.key,
        also_generic=options.also_generic,
    )
    show(options, tuned)


def serve(options: argparse.Namespace) -> None:
    from lhcc.tuning.serve import serve

    serve(options.host, options.port, options.tracker, options.key, options.with_tracker)


def db(options: argparse.Namespace) -> None:
    from lhcc.runtime.files import writable
    from lhcc.tuning.database import merge

    writable(options.output)
    added = merge(options.databases, options.output)
    tell(options, {"output": options.output, "added": added}, f"{options.output}: {added} records added")


def approximate(options: argparse.Namespace) -> None:
    from lhcc.approximation import approximate
    from lhcc.runtime.files import atomic_write, writable

    writable(options.output)
    if options.plot:
        writable(options.plot)
    named = ("set", "scale", "per", "max_error", "max_adds", "max_drop", "weight_bits", "bias_bits", "activation_error")
    chosen = {name: getattr(options, name) for name in named}
    dyadic = approximate(options.model, calibrate=options.calibrate, **chosen)
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


def why(options: argparse.Namespace) -> None:
    from lhcc.report.reasons import of_model, select, to_text

    if is_artifact(options):
        reasons = executable_of(options).reasons
    else:
        reasons = of_model(options.model, options.target or "cpu", input_shapes(options), chosen_options(options))
    reasons = select(reasons, options.layer)
    tell(options, {"reasons": [vars(reason) for reason in reasons]}, to_text(reasons))


def targets(options: argparse.Namespace) -> None:
    from lhcc.report.targets import Targets

    show(options, Targets())


def doctor(options: argparse.Namespace) -> None:
    from lhcc.doctor import diagnose

    diagnosis = diagnose()
    show(options, diagnosis)
    if diagnosis.missing:
        first = diagnosis.missing[0]
        raise LhccError(f"{first.name} is missing: it {first.purpose}", first.install)


# --- parts of commands -----------------------------------------------------------------------------------------------


def _profile(options: argparse.Namespace) -> Any:
    from lhcc.runtime import arrays
    from lhcc.runtime.compare import compare

    executable = executable_of(options)
    if is_simulated(options):
        given = arrays.load_in_order(options.input) if options.input else ()
        return executable.profile(*given, synthesis=options.synthesis)
    inputs = arrays.load(options.input, executable.inputs) if options.input else ()
    if options.emulate:
        return executable.emulate(*inputs)
    if options.against:
        return compare(executable, options.against, options.model, inputs, options.repeats)
    return executable.profile(*inputs, repeats=options.repeats)


def _emulated(executable: Any, inputs: Sequence[Any]) -> Any:
    """The outputs of a run under QEMU, as a call of the executable would return them."""
    emulation = executable.emulate(*inputs)
    counted = f"{emulation.total:,} instructions" if emulation.instructions else emulation.note
    print(f"emulated by {emulation.emulator}: {counted}", file=sys.stderr)
    return emulation.outputs if len(emulation.outputs) != 1 else emulation.outputs[0]


def _profile_remotely(options: argparse.Namespace) -> Any:
    from lhcc.runtime import container
    from lhcc.runtime.files import scratch
    from lhcc.tuning.remote_profile import profile_remotely

    if options.input or options.against:
        raise InputError("a profile at another machine is of random inputs and of one model", "leave out --rpc")
    with scratch() as folder:
        path = Path(options.model)
        if not is_artifact(options):
            path = folder / "model.lhcc"
            compiled(options).save(path)
        container.read(path)  # a damaged file is told here, not there
        return profile_remotely(path.read_bytes(), options.rpc, options.key, options.repeats)


def _pictures(options: argparse.Namespace) -> dict[str, str]:
    """The kernel shapes of a model; an artifact has only packed weights, in which they cannot be seen."""
    import lhcc

    if is_artifact(options):
        return {}
    pictures: dict[str, str] = lhcc.inspect(options.model, input_shapes=input_shapes(options)).svg()
    return pictures


COMMANDS = {
    "inspect": inspect,
    "compile": compile_,
    "run": run,
    "profile": profile,
    "why": why,
    "tune": tune,
    "serve": serve,
    "db": db,
    "approximate": approximate,
    "import-lhc": import_lhc,
    "targets": targets,
    "doctor": doctor,
}
