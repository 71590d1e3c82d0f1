"""What the parsed options of a command stand for: the model, compiled or loaded, and how results are printed."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from lhcc.errors import InputError


def is_artifact(options: argparse.Namespace) -> bool:
    from lhcc.runtime.container import is_container

    return is_container(options.model) or str(options.model).endswith(".lhcc")


def is_simulated(options: argparse.Namespace) -> bool:
    """Whether the target is hardware that is designed and simulated, not a processor that runs code."""
    if options.target:
        return str(options.target).partition(":")[0] == "fpga"
    from lhcc.runtime import artifact, container

    return container.is_container(options.model) and container.describe(options.model).get("kind") in artifact.OTHERS


def executable_of(options: argparse.Namespace) -> Any:
    """The artifact that was named, or the model that was named, compiled."""
    from lhcc.runtime import artifact

    if is_artifact(options):
        refuse_changes(options)
        if getattr(options, "emulate", False):
            from lhcc.runtime.executable import Executable

            return Executable(artifact.read(options.model, for_any_machine=True)[0], options.threads)
        return artifact.load(options.model, threads=options.threads)
    return compiled(options)


def refuse_changes(options: argparse.Namespace) -> None:
    """Options of compilation change no artifact; it has as many threads as it is loaded with."""
    from lhcc.targets.base import Options

    usual = asdict(Options())
    given = [name for name in ("target", "input_shape") if getattr(options, name)]
    given += [name for name, value in chosen_options(options).items() if name != "threads" and value != usual[name]]
    if given:
        option = given[0].replace("_", "-")
        raise InputError(f"{options.model} is compiled already", f"give --{option} and the like to lhcc compile")


def compiled(options: argparse.Namespace) -> Any:
    import lhcc
    from lhcc.runtime.library import import_tvm

    import_tvm()  # here, because it leaves out PyTorch, which most models do not need
    return lhcc.compile(
        options.model, options.target or "cpu", input_shapes=input_shapes(options), **chosen_options(options)
    )


def emitted(options: argparse.Namespace) -> Any:
    import lhcc
    from lhcc.runtime.library import import_tvm

    import_tvm()
    return lhcc.emit(
        options.model, options.output, options.target or "cpu", form=options.emit, name=options.name,
        weights=options.weights or "array", input_shapes=input_shapes(options), **chosen_options(options),
    )  # fmt: skip


def chosen_options(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "threads": options.threads or 1,
        "tuning": getattr(options, "tuning", None),
        "precision": options.precision,
        "encoding": options.encoding,
        "arith": options.arith,
        "io": options.io,
        "strict": options.strict,
        "calibrate": getattr(options, "calibrate", None),
        "max_ram": getattr(options, "max_ram", None),
        "max_flash": getattr(options, "max_flash", None),
    }


def input_shapes(options: argparse.Namespace) -> dict[str, tuple[int, ...]]:
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


def show(options: argparse.Namespace, result: Any) -> None:
    """Prints something that has `json()` and `str()`."""
    if options.json:
        data = result.json()
        print(data if isinstance(data, str) else json.dumps(data, indent=1))
    else:
        print(result)


def tell(options: argparse.Namespace, data: Any, text: str) -> None:
    """Prints the one or the other."""
    print(json.dumps(data, indent=1) if options.json else text)
