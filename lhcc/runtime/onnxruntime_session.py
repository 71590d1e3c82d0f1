"""ONNX Runtime on the model that an executable was made of: the other side of a comparison."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhcc.errors import InputError, ToolMissing

if TYPE_CHECKING:
    from lhcc.runtime.executable import Executable

RUNS = 20


class OrtSession:
    """ONNX Runtime on the same model, inputs and number of threads."""

    def __init__(self, model: str, executable: Executable, inputs: Sequence[Any]) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ToolMissing("onnxruntime is not installed", "pip install onnxruntime") from None
        if Path(model).suffix != ".onnx":
            raise InputError(f"ONNX Runtime cannot read {model}", "profile the .onnx file that it was compiled from")
        self.runtime, self.model = onnxruntime, str(model)
        self.threads = executable.threads
        self.feed = {spec.name: value for spec, value in zip(executable.inputs, inputs, strict=True)}
        self.session = self._open(profiling=None)

    def _open(self, profiling: str | None) -> Any:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        if profiling:
            options.enable_profiling, options.profile_file_prefix = True, profiling
        return self.runtime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])

    def run(self) -> object:
        return self.session.run(None, self.feed)

    def layers(self) -> dict[str, float]:
        """Median microseconds by layer, under the names that the nodes have in the model."""
        with tempfile.TemporaryDirectory(prefix="lhcc-") as folder:
            session = self._open(os.path.join(folder, "ort"))
            for _ in range(RUNS):
                session.run(None, self.feed)
            events = json.loads(Path(session.end_profiling()).read_text())
        name_of = _names(self.model)
        times: dict[str, list[float]] = defaultdict(list)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                ran = event["name"].removesuffix("_kernel_time")
                times[name_of(ran, event["args"]["op_name"])].append(event["dur"])
        return {name: statistics.median(values) for name, values in times.items()}


def _names(model: str) -> Callable[[str, str], str]:
    """From the name and operator of a node that ran to that of the model's node.

    A node that ONNX Runtime fused is called after the tensor that it writes, with or without `_nchwc`: its own node is
    the nearest one of that operator before the tensor.
    """
    import onnx

    nodes = onnx.load(model, load_external_data=False).graph.node
    names = {node.name for node in nodes}
    writer = {output: node for node in nodes for output in node.output}

    def name_of(ran: str, operator: str) -> str:
        for name in (ran, ran.removesuffix("_nchwc"), ran.removeprefix("fused ")):
            if name in names:
                return name
        node = writer.get(ran.removesuffix("_nchwc"))
        while node is not None and not operator.endswith(node.op_type):
            node = next((writer[tensor] for tensor in node.input if tensor in writer), None)
        return ran if node is None else node.name

    return name_of
