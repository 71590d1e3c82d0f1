"""The command line: parses, calls the library, prints.  What a command computes is decided elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhcc.errors import InputError, LhccError

INTERRUPTED, MISTAKE = 130, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.  A user's mistake is one sentence and exit code 2; a bug of ours keeps its traceback."""
    options = parser().parse_args(arguments)
    from lhcc.report.progress import progress

    try:
        with progress():
            options.command(options)
        sys.stdout.flush()
        return 0
    except LhccError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# --- commands --------------------------------------------------------------------------------------------------------


def inspect(options: argparse.Namespace) -> None:
    import lhcc
    from lhcc.runtime.library import import_tvm

    import_tvm()
    _show(options, lhcc.inspect(options.model, input_shapes=_shapes(options)))


def compile_(options: argparse.Namespace) -> None:
    from lhcc.runtime.files import writable

    writable(options.output)
    started = time.perf_counter()
    executable = _compile(options)
    executable.save(options.output)
    facts = {
        "output": str(options.output),
        "bytes": Path(options.output).stat().st_size,
        "layers": len(executable.layers),
        "seconds": round(time.perf_counter() - started, 2),
    }
    text = "{output}: {bytes:,} bytes, {layers} layers, compiled in {seconds} s".format_map(facts)
    _print(options, facts, text)


def run(options: argparse.Namespace) -> None:
    from lhcc.runtime import arrays
    from lhcc.runtime.files import writable

    if options.output:
        writable(options.output)
    executable = _executable(options)
    inputs = arrays.load(options.input, executable.inputs) if options.input else executable.random_inputs()
    outputs = executable(*inputs)
    named = arrays.named(executable.outputs, outputs)
    if options.output:
        arrays.save(options.output, named)
    _print(options, arrays.statistics(named), arrays.summary(named))
    if not options.input:
        print("the inputs were random numbers: --input FILE.npy or FILE.npz gives your own", file=sys.stderr)


def profile(options: argparse.Namespace) -> None:
    from lhcc.runtime import arrays
    from lhcc.runtime.files import atomic_write, writable

    reports = {"csv": options.csv, "html": options.html, "trace": options.trace}
    for path in filter(None, reports.values()):
        writable(path)
    executable = _executable(options)
    inputs = arrays.load(options.input, executable.inputs) if options.input else ()
    if options.against:
        from lhcc.runtime.compare import compare

        measured: Any = compare(executable, options.against, options.model, inputs, options.repeats)
    else:
        measured = executable.profile(*inputs, repeats=options.repeats)
    for kind, path in reports.items():
        if path:
            text = measured.html(_pictures(options)) if kind == "html" else getattr(measured, kind)()
            with atomic_write(path) as file:
                file.write(text.encode())
    _show(options, measured)


def tune(options: argparse.Namespace) -> None:
    from lhcc.runtime.files import writable
    from lhcc.runtime.library import import_tvm

    writable(options.database)
    import_tvm()
    from lhcc.tuning.tune import tune_model

    chosen = _chosen(options)
    del chosen["tuning"]
    tuned = tune_model(
        options.model,
        options.target or "cpu",
        input_shapes=_shapes(options),
        budget_s=options.budget,
        database=options.database,
        options=chosen,
    )
    _show(options, tuned)


def approximate(options: argparse.Namespace) -> None:
    from lhcc.approximation import approximate
    from lhcc.runtime.files import atomic_write, writable

    writable(options.output)
    limits = {"max_error": options.max_error, "max_adds": options.max_adds, "max_drop": options.max_drop}
    dyadic = approximate(
        options.model, calibrate=options.calibrate, set=options.set, scale=options.scale, per=options.per, **limits
    )
    with atomic_write(options.output) as file:
        file.write(dyadic.model.SerializeToString())
    _print(options, json.loads(dyadic.report.to_json()), str(dyadic.report))


def import_lhc(options: argparse.Namespace) -> None:
    from lhcc.frontend.lhc_checkpoint import import_lhc
    from lhcc.runtime.files import atomic_write, writable

    writable(options.output)
    model = import_lhc(options.weights, options.arch, options.group_in, options.group_out, options.batch)
    with atomic_write(options.output) as file:
        file.write(model.SerializeToString())
    size = Path(options.output).stat().st_size
    _print(options, {"output": options.output, "bytes": size}, f"{options.output}: {size:,} bytes")


def why(options: argparse.Namespace) -> None:
    from lhcc.report.reasons import of_model, select, to_text

    if _is_artifact(options):
        reasons = _executable(options).reasons
    else:
        reasons = of_model(options.model, options.target or "cpu", _shapes(options), _chosen(options))
    reasons = select(reasons, options.layer)
    _print(options, {"reasons": [vars(reason) for reason in reasons]}, to_text(reasons))


def targets(options: argparse.Namespace) -> None:
    from lhcc.report.targets import Targets

    _show(options, Targets())


def doctor(options: argparse.Namespace) -> None:
    from lhcc.doctor import diagnose

    diagnosis = diagnose()
    _show(options, diagnosis)
    if diagnosis.missing:
        first = diagnosis.missing[0]
        raise LhccError(f"{first.name} is missing: it {first.purpose}", first.install)


# --- what commands share ---------------------------------------------------------------------------------------------


def _pictures(options: argparse.Namespace) -> dict[str, str]:
    """The kernel shapes of a model; an artifact has only packed weights, in which they cannot be seen."""
    import lhcc

    if _is_artifact(options):
        return {}
    pictures: dict[str, str] = lhcc.inspect(options.model, input_shapes=_shapes(options)).svg()
    return pictures


def _is_artifact(options: argparse.Namespace) -> bool:
    from lhcc.runtime.container import is_container

    return is_container(options.model) or str(options.model).endswith(".lhcc")


def _show(options: argparse.Namespace, result: Any) -> None:
    """Prints something that has `json()` and `str()`."""
    if options.json:
        print(json.dumps(result.json(), indent=1))
    else:
        print(result)


def _print(options: argparse.Namespace, data: Any, text: str) -> None:
    print(json.dumps(data, indent=1) if options.json else text)


def _executable(options: argparse.Namespace) -> Any:
    """The artifact that was named, or the model that was named, compiled."""
    from lhcc.runtime import artifact

    if _is_artifact(options):
        if options.target or options.tuning or options.input_shape:
            raise InputError(f"{options.model} is compiled already", "give --target and the like to lhcc compile")
        return artifact.load(options.model, threads=options.threads)
    return _compile(options)


def _compile(options: argparse.Namespace) -> Any:
    import lhcc
    from lhcc.runtime.library import import_tvm

    import_tvm()  # here, because it leaves out PyTorch, which most models do not need
    return lhcc.compile(options.model, options.target or "cpu", input_shapes=_shapes(options), **_chosen(options))


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "threads": options.threads or 1,
        "tuning": getattr(options, "tuning", None),
        "precision": options.precision,
        "encoding": options.encoding,
    }


def _shapes(options: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for text in options.input_shape:
        name, equals, extents = text.rpartition("=")
        try:
            shapes[name] = tuple(int(extent) for extent in extents.replace("x", ",").split(","))
        except ValueError:
            raise InputError(f"--input-shape {text} is not of the form NAME=1,3,32,32") from None
        if not equals or min(shapes[name]) < 1:
            raise InputError(f"--input-shape {text} is not of the form NAME=1,3,32,32")
    return shapes


# --- the parser ------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="lhcc", description="Compiles structurally compressed CNNs, and shows what it gained."
    )
    root.add_argument("--version", action="version", version=f"lhcc {_version()}")
    commands = root.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, call: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.add_argument("--json", action="store_true", help="print JSON instead of text")
        added.set_defaults(command=call)
        return added

    p = command("inspect", inspect, "the structure found in every layer's weights")
    p.add_argument("model", help="an ONNX file, or a .pt2 file of PyTorch")
    _input_shape(p)

    p = command("compile", compile_, "compile a model into one file")
    p.add_argument("model", help="an ONNX file, or a .pt2 file of PyTorch")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="the artifact to write, such as model.lhcc")
    _compile_options(p)

    p = command("run", run, "run a model or an artifact on arrays")
    p.add_argument("model", help="an artifact, or a model, which is compiled first")
    _inputs(p)
    p.add_argument("--output", metavar="FILE", help=".npz, or .npy when there is one output")
    _compile_options(p)

    p = command("profile", profile, "time every layer of a model or an artifact")
    p.add_argument("model", help="an artifact, or a model, which is compiled first")
    _inputs(p)
    p.add_argument("--repeats", type=_positive, metavar="N", help="how often to run (as often as fits into a second)")
    p.add_argument("--against", metavar="OTHER", help="another artifact or model, or onnxruntime, to compare with")
    p.add_argument("--csv", metavar="FILE", help="also write the table as CSV")
    p.add_argument("--html", metavar="FILE", help="also write a report for a browser, in one file")
    p.add_argument("--trace", metavar="FILE", help="also write a trace for Perfetto or chrome://tracing")
    _compile_options(p)

    p = command("why", why, "why layers were not optimised further")
    p.add_argument("model", help="a model, or an artifact, which remembers the reasons")
    p.add_argument("--layer", metavar="NAME", help="only the layers whose name contains this")
    _compile_options(p)

    p = command("tune", tune, "find the fastest kernels by measuring, and remember them")
    p.add_argument("model", help="an ONNX file, or a .pt2 file of PyTorch")
    p.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="how long to search (default 60)")
    p.add_argument("--database", default="tuning.json", metavar="FILE", help="where to add what is found (tuning.json)")
    _compile_options(p, tuning=False)

    p = command("approximate", approximate, "turn weights into dyadic numbers, which need no multiplication")
    p.add_argument("model", help="an ONNX file")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="the ONNX file to write")
    p.add_argument("--set", metavar="SET", help="the numbers to choose from: ternary, two, half, digits:2:4, ...")
    p.add_argument(
        "--scale", default="shift", help="shift: by powers of two; folded: free, folded onward (default shift)"
    )
    p.add_argument("--per", help="one scale per kernel, filter or layer")
    p.add_argument("--max-error", type=float, metavar="E", help="largest relative error of a layer's weights")
    p.add_argument("--max-adds", type=int, metavar="N", help="largest number of additions")
    p.add_argument(
        "--max-drop", type=float, metavar="PERCENT", help="largest loss of accuracy, on --calibrate with labels"
    )
    p.add_argument("--calibrate", metavar="FILE", help=".npz file with inputs x and, for --max-drop, labels y")

    p = command("import-lhc", import_lhc, "read weights of the LHC authors' training code, write ONNX")
    p.add_argument("weights", help="the .h5 file")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="the ONNX file to write")
    p.add_argument("--arch", default="vgg16-cifar", help="the network that the weights are of (default vgg16-cifar)")
    p.add_argument("--group-in", type=_positive, default=32, metavar="N", help="input channels per shape (default 32)")
    p.add_argument(
        "--group-out", type=_positive, default=16, metavar="N", help="output channels per shape (default 16)"
    )
    p.add_argument("--batch", type=_positive, default=1, metavar="N", help="images at once (default 1)")

    command("targets", targets, "what can be compiled for, and with which arguments")
    command("doctor", doctor, "which tools and packages are here")
    return root


def _compile_options(p: argparse.ArgumentParser, tuning: bool = True) -> None:
    p.add_argument("--target", metavar="TARGET", help="such as cpu or cpu:mcpu=cortex-a72 (default cpu)")
    p.add_argument("--threads", type=_positive, metavar="N", help="threads that a run uses (default 1)")
    if tuning:
        p.add_argument("--tuning", metavar="FILE", help="the database that lhcc tune wrote")
    p.add_argument("--precision", default="fp32", help="arithmetic of the kernels (default fp32)")
    p.add_argument("--encoding", default="auto", help="dense: without using what compression saves (default auto)")
    _input_shape(p)


def _input_shape(p: argparse.ArgumentParser) -> None:
    text = "shape of an input whose dimensions the model leaves open"
    p.add_argument("--input-shape", action="append", default=[], metavar="NAME=1,3,32,32", help=text)


def _inputs(p: argparse.ArgumentParser) -> None:
    text = ".npy file of an input, in order, or .npz file of inputs by name (default: random numbers)"
    p.add_argument("--input", action="append", default=[], metavar="FILE", help=text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lhcc")
    except PackageNotFoundError:
        return "unknown"
