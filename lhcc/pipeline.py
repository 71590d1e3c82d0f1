"""The whole order of passes, on one screen; with dumps, checks and times between them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tvm
from tvm import relax

from lhcc.errors import LhccError
from lhcc.ir.int_calls import is_known
from lhcc.ir.log import Log, Lowered, in_order
from lhcc.passes.fold_affine import FoldAffine
from lhcc.passes.fold_constants import FoldConstants
from lhcc.passes.fold_padding import FoldPadding
from lhcc.passes.fuse_epilogue import FuseEpilogue
from lhcc.passes.lower_kernels import LowerKernels
from lhcc.passes.lower_pooling import LowerPooling
from lhcc.passes.lower_to_dialect import LowerToDialect
from lhcc.passes.permute_channels import PermuteChannels
from lhcc.passes.recognise_activations import RecogniseActivations
from lhcc.passes.remove_dead_channels import RemoveDeadChannels
from lhcc.targets.base import Options, Pass, Target

if TYPE_CHECKING:
    from lhcc.ir.verify import Verifier


def graph_passes() -> list[Pass]:
    """The part that is the same for every target: to the dialect, and as little work as possible."""
    return [
        FoldConstants(),
        LowerToDialect(),
        FoldPadding(),
        LowerPooling(),
        FoldAffine(),
        RecogniseActivations(),
        FuseEpilogue(),
        RemoveDeadChannels(),
        PermuteChannels(),
    ]


def passes(target: Target, options: Options) -> list[Pass]:
    return [
        *graph_passes(),
        *target.layout_passes(options),  # how maps lie in memory, how weights are encoded
        *target.lowering_passes(options),  # kernels
    ]


def lower(mod: tvm.IRModule, target: Target, options: Options, after: int = 0) -> Lowered:
    """`after` is the number of passes that the module went through before."""
    order = passes(target, options)
    log = Log()
    mod = run(mod, order, log, after)
    kernels = next(item for item in order if isinstance(item, LowerKernels))
    return Lowered(mod, kernels.layers, in_order(log.reasons, kernels.layers), log.seconds)


def run(mod: tvm.IRModule, order: list[Pass], log: Log, after: int = 0) -> tvm.IRModule:
    """Runs the passes, which are numbered after those before.

    LHCC_DUMP=dir writes the IR after each; LHCC_VERIFY=1 checks its form, 2 also its numbers.
    """
    folder, level = os.environ.get("LHCC_DUMP"), os.environ.get("LHCC_VERIFY") or "0"
    if level not in ("0", "1", "2"):
        raise LhccError(f"LHCC_VERIFY={level} is not 0, 1 or 2", "1 checks the form of the IR, 2 also its numbers")
    verifier = _verifier(mod, order) if level == "2" and is_known(mod) else None
    if not after:
        _dump(mod, folder, 0, "imported")
    for number, item in enumerate(order, after + 1):
        start = time.perf_counter()
        try:
            mod = item.run(mod, log)
        except Exception as error:
            _annotate(error, f"in pass {item.name}")
            raise
        log.seconds[item.name] = log.seconds.get(item.name, 0.0) + time.perf_counter() - start
        _dump(mod, folder, number, item.name)
        if level != "0":
            _well_formed(mod, item.name)
        if verifier is not None and verifier.can_check(mod):
            verifier.check(mod, item.name)
    return mod


def _dump(mod: tvm.IRModule, folder: str | None, number: int, name: str) -> None:
    if folder:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, f"{number:02d}_{name}.py").write_text(str(mod.script(show_meta=False)))
        except OSError as error:
            raise LhccError(f"LHCC_DUMP: '{folder}' cannot be written: {error.strerror}") from error


def _verifier(mod: tvm.IRModule, order: list[Pass]) -> Verifier:
    from lhcc.ir.verify import Verifier

    lowering = next((item for item in order if isinstance(item, LowerKernels)), None)
    if lowering is None:
        return Verifier(mod)
    return Verifier(mod, lowering.plain if lowering.elsewhere else lowering.generate, lowering.tolerance)


def _well_formed(mod: Any, name: str) -> None:
    try:
        relax.analysis.well_formed(mod)
    except Exception as error:
        _annotate(error, f"the IR after pass {name} is not well formed")
        raise


def _annotate(error: Exception, text: str) -> None:
    """Python 3.10 has no notes on exceptions."""
    if hasattr(error, "add_note"):
        error.add_note(text)
