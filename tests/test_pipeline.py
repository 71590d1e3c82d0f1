"""The whole order of passes: dumped, verified and timed between them; random networks come through it unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from lhcc import pipeline
from lhcc.errors import LhccError
from lhcc.ir.graph import Rewriter, calls, constant, op_name
from lhcc.ir.log import Log
from lhcc.ir.verify import NumbersChanged, Verifier
from lhcc.passes.lower_kernels import LowerKernels
from lhcc.targets.base import Options, parse
from tests.passes.modules import Graph, const, normal
from tests.passes.random_graphs import RandomGraph


def network() -> tvm.IRModule:
    g = Graph(x=(1, 3, 5, 5))
    y = g("conv", relax.op.nn.conv2d(g.x, const(normal(8, 3, 1, 1))))
    y = g("scaled", relax.op.multiply(y, const(normal(8, 1, 1))))
    return g.returns(g("act", relax.op.nn.relu(y)))


@dataclass(frozen=True)
class Twice:
    """A faulty pass: doubles every weight that it sees."""

    name = "twice"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        def visit(name: str, value: Any) -> Any:
            if op_name(value) != "relax.nn.conv2d":
                return None
            return relax.Call(value.op, [value.args[0], constant(2 * normal(8, 3, 1, 1))], value.attrs)

        return Rewriter(mod, log, self.name).run(visit)


@dataclass(frozen=True)
class Torn:
    """A faulty pass: its result has another type than it says."""

    name = "torn"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        main = mod["main"]
        wrong = relax.Var("output", relax.TensorType((7,), "float32"))
        block = relax.DataflowBlock([relax.VarBinding(wrong, main.params[0])])
        body = relax.SeqExpr([block], relax.Var("nowhere", wrong.ty))
        return tvm.IRModule({"main": relax.Function(main.params, body, wrong.ty).with_attr("global_symbol", "main")})


@dataclass(frozen=True)
class Failing:
    name = "failing"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        raise RuntimeError("out of ideas")


def notes(error: BaseException) -> Any:
    """What the pipeline added to an error; Python 3.10 has no notes."""
    if not hasattr(error, "add_note"):
        pytest.skip("exceptions have no notes before Python 3.11")
    return getattr(error, "__notes__", [])


def test_lowering_ends_in_kernels_and_says_what_they_are() -> None:
    lowered = pipeline.lower(network(), parse("cpu"), Options())
    assert {op_name(value) for _, value in calls(lowered.mod) if op_name(value)} == {"relax.call_tir"}
    assert [(layer.name, layer.op) for layer in lowered.layers] == [("conv", "conv2d"), ("conv", "from_blocked")]
    assert set(lowered.seconds) == {item.name for item in pipeline.passes(parse("cpu"), Options())}


def test_dump_writes_the_ir_after_every_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHCC_DUMP", str(tmp_path / "dump"))
    pipeline.run(network(), pipeline.graph_passes(), Log())
    files = sorted(path.name for path in (tmp_path / "dump").iterdir())
    names = ["imported", *(item.name for item in pipeline.graph_passes())]
    assert files == [f"{number:02d}_{name}.py" for number, name in enumerate(names)]
    assert "nn.relu" in (tmp_path / "dump" / files[0]).read_text()
    assert "nn.relu" not in (tmp_path / "dump" / files[-1]).read_text()


def test_verify_finds_wrong_numbers_and_names_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHCC_VERIFY", "1")
    pipeline.run(network(), [Twice()], Log())  # its form is right
    monkeypatch.setenv("LHCC_VERIFY", "2")
    with pytest.raises(NumbersChanged, match="pass twice changed output 0: relative error"):
        pipeline.run(network(), [Twice()], Log())
    pipeline.run(network(), pipeline.passes(parse("cpu"), Options()), Log())


def test_verify_finds_malformed_ir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHCC_VERIFY", "1")
    with pytest.raises(Exception, match="cannot be assigned") as caught:
        pipeline.run(network(), [Torn()], Log())
    assert notes(caught.value) == ["the IR after pass torn is not well formed"]


def test_mistakes_in_the_variables_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHCC_VERIFY", "yes")
    with pytest.raises(LhccError, match="LHCC_VERIFY=yes is not 0, 1 or 2"):
        pipeline.run(network(), [], Log())
    monkeypatch.setenv("LHCC_VERIFY", "")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LHCC_DUMP", str(tmp_path / "file"))
    with pytest.raises(LhccError, match="LHCC_DUMP: '.*file' cannot be written: "):
        pipeline.run(network(), [], Log())


def test_an_error_in_a_pass_keeps_its_type_and_names_the_pass() -> None:
    with pytest.raises(RuntimeError, match="out of ideas") as caught:
        pipeline.run(network(), [Failing()], Log())
    assert notes(caught.value) == ["in pass failing"]


def test_no_variable_changes_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tvm_ffi

    plain = pipeline.run(network(), pipeline.graph_passes(), Log())
    monkeypatch.setenv("LHCC_DUMP", str(tmp_path))
    monkeypatch.setenv("LHCC_VERIFY", "2")
    assert tvm_ffi.structural_equal(plain, pipeline.run(network(), pipeline.graph_passes(), Log()))


@pytest.mark.parametrize("seed", range(30))
def test_graph_passes_keep_random_networks(seed: int) -> None:
    mod = RandomGraph(2000 + seed, zeros=(0.0, 0.5, 0.8)[seed % 3]).module(14)
    verifier = Verifier(mod)
    for item in pipeline.graph_passes():
        mod = item.run(mod, Log())
        relax.analysis.well_formed(mod)
        verifier.check(mod, item.name)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_all_passes_keep_random_networks(seed: int) -> None:
    mod = RandomGraph(3000 + seed, zeros=(0.0, 0.6)[seed % 2]).module(12)
    order = pipeline.passes(parse("cpu"), Options())
    verifier = Verifier(mod, next(item.generate for item in order if isinstance(item, LowerKernels)))
    for item in order:
        mod = item.run(mod, Log())
        relax.analysis.well_formed(mod)
        verifier.check(mod, item.name)


def test_batches_and_several_outputs_come_through() -> None:
    """A squeeze-and-excite block of batch 3, its gate an output of its own, compiled and run."""
    import lhcc.runtime.build as runtime

    g = Graph(x=(3, 4, 6, 6))
    y = g("conv", relax.op.nn.conv2d(g.x, const(normal(20, 4, 3, 3)), padding=(1, 1)))
    gate = g("gate", relax.op.sigmoid(g("mean", relax.op.mean(y, [2, 3], keepdims=True))))
    mod = g.returns(g("gated", relax.op.multiply(y, gate)), gate)
    target = parse("cpu")
    executable = runtime.build(pipeline.lower(mod, target, Options()), target)
    verifier = Verifier(mod)
    for found, expected in zip(executable(*verifier.inputs), verifier.outputs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
