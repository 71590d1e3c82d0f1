"""Commands that run a model: on arrays, or to see where its time goes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhcc.cli.options import compiled, executable_of, input_shapes, is_artifact, is_simulated, show, tell
from lhcc.errors import InputError


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
