"""One run of a program under QEMU: outputs, and how many instructions each layer took."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.emulation import plan, tools
from lhcc.errors import LhccError
from lhcc.ir.log import LayerRecord
from lhcc.report.text import grid, quantity
from lhcc.runtime.files import scratch
from lhcc.runtime.program import Program

NO_TIMES = "emulated time is not a measurement: instructions are counted instead"


class EmulationError(LhccError):
    """The emulated run failed."""


@dataclass(frozen=True)
class Emulation:
    """What a run gave.  `instructions` has one count per layer; it is empty, and `note` says why, where QEMU cannot
    count.  `str()` is a table."""

    outputs: tuple[NDArray[Any], ...]
    layers: tuple[LayerRecord, ...]
    instructions: tuple[int, ...]
    emulator: str
    target: str
    note: str = ""

    @property
    def total(self) -> int:
        return sum(self.instructions)

    def json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dumps`."""
        keys = ("name", "op", "encoding", "density", "macs", "macs_kept")
        layers = [{key: getattr(layer, key) for key in keys} for layer in self.layers]
        for layer, count in zip(layers, self.instructions, strict=False):
            layer["instructions"] = count
        return {
            "target": self.target,
            "emulator": self.emulator,
            "note": self.note or NO_TIMES,
            "instructions": self.total if self.instructions else None,
            "layers": layers,
        }

    def __str__(self) -> str:
        counted = self.instructions or (0,) * len(self.layers)
        rows = []
        for layer, count in zip(self.layers, counted, strict=True):
            per_mac = f"{count / layer.macs_kept:.2f}" if layer.macs_kept and count else ""
            share = f"{100 * count / self.total:.1f} %" if count else ""
            row = [layer.name, layer.op, layer.encoding, f"{layer.density:.3f}", f"{layer.macs:,}"]
            rows.append([*row, f"{layer.macs_kept:,}", f"{count:,}" if self.instructions else "", share, per_mac])
        header = ["layer", "op", "encoding", "density", "MACs", "kept", "instructions", "share", "per kept MAC"]
        kept, macs = (sum(getattr(layer, key) for layer in self.layers) for key in ("macs_kept", "macs"))
        lines = [f"{quantity(kept)} of {quantity(macs)} multiply-adds are carried out"]
        if self.instructions:
            lines.append(f"{self.total:,} instructions of {self.target}")
        lines.append(f"emulated by {self.emulator}; {self.note or NO_TIMES}")
        return f"{grid(header, rows, left=3)}\n\n" + "\n".join(lines)


def emulate(program: Program, inputs: Sequence[NDArray[Any]]) -> Emulation:
    """Runs `program` on `inputs`, which fit it."""
    emulator = tools.emulator(program)
    runner = str(emulator.runner())
    plugin, note = tools.counter((*emulator.command, runner))
    with scratch() as folder:
        paths = {name: folder / name for name in ("kernels.so", "plan", "weights", "inputs", "outputs", "counts")}
        paths["kernels.so"].write_bytes(program.code)
        paths["plan"].write_text(plan.write(program))
        paths["weights"].write_bytes(program.weights.tobytes())
        paths["inputs"].write_bytes(b"".join(np.ascontiguousarray(value).tobytes() for value in inputs))
        counting = ["-plugin", f"{plugin},to={paths['counts']}"] if plugin else []
        kernels = str(paths["kernels.so"]) if program.code else ""
        files = [kernels, *(str(paths[name]) for name in ("plan", "weights", "inputs", "outputs"))]
        first, *rest = emulator.command
        done = subprocess.run([first, *counting, *rest, runner, *files], capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise EmulationError(f"the run under {emulator.name} failed: {said}")
        outputs = _outputs(program, paths["outputs"])
        counts = _counts(paths["counts"], len(program.layers)) if plugin else ()
    return Emulation(outputs, program.layers, counts, emulator.name, program.target, note)


def _outputs(program: Program, path: Path) -> tuple[NDArray[Any], ...]:
    data, start, found = path.read_bytes(), 0, []
    for spec in program.outputs:
        part = np.frombuffer(data[start : start + spec.nbytes], spec.dtype)
        found.append(part.reshape(spec.shape).copy())
        start += spec.nbytes
    return tuple(found)


def _counts(path: Path, layers: int) -> tuple[int, ...]:
    """One count per layer: the first mark ends the start of the program, the second tells what marking costs."""
    _, marking, *counts = map(int, path.read_text().split())
    if len(counts) != layers:
        raise RuntimeError(f"{len(counts)} counts for {layers} layers")
    return tuple(max(0, count - marking) for count in counts)
