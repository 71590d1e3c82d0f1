"""Small lowered models for the runtime's tests, made with TVM's own legalisation instead of lhcc's kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lhcc.ir.log import LayerRecord, Reason
from lhcc.runtime.library import import_tvm


@dataclass
class FakeLowered:
    """What the pipeline hands to `build`."""

    mod: Any
    layers: list[Any]
    reasons: list[Any] = field(default_factory=list)
    modules: list[Any] = field(default_factory=list)


@pytest.fixture(scope="session")
def lower() -> Callable[[Any], FakeLowered]:
    """Any Relax module -> kernels and one record per kernel call."""
    import_tvm()
    from tvm import transform
    from tvm.relax import transform as relax_transform

    from lhcc.runtime.steps import read

    def run(module: Any) -> FakeLowered:
        passes = [relax_transform.LegalizeOps(), relax_transform.AnnotateTIROpPattern(), relax_transform.FoldConstant()]
        module = transform.Sequential([*passes, relax_transform.FuseOps(), relax_transform.FuseTIR()])(module)
        layers = [record(step.name, step.kernel) for step in read(module["main"]).steps]
        reasons = [Reason("conv0", "fold", "it was already folded")]
        return FakeLowered(module, layers, reasons)

    return run


def record(name: str, kernel: str) -> LayerRecord:
    return LayerRecord(name, "conv2d", kernel, "tiles", density=0.5, macs=1000, macs_kept=500, bytes_moved=4096)


@pytest.fixture(scope="session")
def host_target() -> Any:
    import_tvm()
    from tvm.target import Target
    from tvm.target.codegen import llvm_get_system_cpu

    target = Target({"kind": "llvm", "mcpu": llvm_get_system_cpu()})
    return SimpleNamespace(name="cpu", tvm_target=lambda: target)


@pytest.fixture(scope="session")
def conv_module() -> Callable[..., Any]:
    """A chain of convolutions with relu, as one Relax function."""
    import_tvm()
    from tvm import relax

    def make(depth: int = 3, channels: int = 8, size: int = 6, seed: int = 0) -> Any:
        rng = np.random.default_rng(seed)
        x = relax.Var("x", relax.TensorType((1, 3, size, size), "float32"))
        builder = relax.BlockBuilder()
        with builder.function("main", [x]):
            with builder.dataflow():
                value: Any = x
                for i in range(depth):
                    shape = (channels, channels if i else 3, 3, 3)
                    weight = relax.const((rng.standard_normal(shape) / np.sqrt(9 * shape[1])).astype("float32"))
                    conv = relax.op.nn.conv2d(value, weight, padding=1)
                    value = builder.emit(relax.op.nn.relu(conv), name_hint=f"conv{i}")
                value = builder.emit_output(value)
            builder.emit_func_output(value)
        return builder.get()

    return make


@pytest.fixture(scope="session")
def conv_executable(lower: Any, host_target: Any, conv_module: Any) -> Any:
    from lhcc.runtime.build import build

    return build(lower(conv_module()), host_target, jobs=1)


@pytest.fixture(scope="session")
def reference() -> Callable[..., list[Any]]:
    """TVM's own virtual machine on the module, with nothing of ours in between."""
    tvm = import_tvm()
    from tvm import relax

    def run(module: Any, *inputs: Any) -> list[Any]:
        machine = relax.VirtualMachine(relax.build(module, "llvm"), tvm.cpu())
        result = machine["main"](*[tvm.runtime.tensor(value) for value in inputs])
        return [result.numpy()] if hasattr(result, "numpy") else [item.numpy() for item in result]

    return run
