"""The GPU benchmark where there is no GPU: it says so, and its way through a run is taken on the emulated one."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cuda
from benchmarks.results import ROOT, Case, Result
from lhcc.runtime import cuda_driver


def test_without_a_gpu_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libnothing.so.1")
    assert cuda.main(["--check"]) == 2
    assert "nothing was measured" in capsys.readouterr().out


def test_rows_name_network_density_and_batch() -> None:
    assert cuda.rows("resnet34:0.25:64,vgg16-cifar:1:1") == [("resnet34", 0.25, 64), ("vgg16-cifar", 1.0, 1)]
    assert set(cuda.ASKED) <= set(cuda.rows(None))
    assert cuda.title(("resnet34", 1.0, 64), "fp16") == "resnet34-d1-b64-fp16"


def test_break_even_lies_between_measured_densities() -> None:
    def case(density: float, speed: float) -> Case:
        rival, mine = Result("cudnn", "fp16", rounds_ms=[speed]), Result("lhcc", "fp16", "ours", rounds_ms=[1.0])
        for result in (rival, mine):
            result.summarise(result.rounds_ms)
        return Case("", 1, [mine, rival], {"density": density})

    assert cuda.break_even([case(0.5, 0.5), case(0.1, 3.0), case(0.3, 1.5)]) == pytest.approx(0.4)
    assert cuda.break_even([case(0.1, 3.0), case(1.0, 1.1)]) is None


def _write(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"w1": (32, 3, 3, 3), "b1": (32,), "w2": (10, 32), "b2": (10,)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("GlobalAveragePool", ["b"], ["c"]),
            helper.make_node("Flatten", ["c"], ["d"]),
            helper.make_node("Gemm", ["d", "w2", "b2"], ["y"], transB=1),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), n) for n, shape in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))


def test_a_whole_run_on_the_emulated_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are compared with PyTorch's; the rivals need a real GPU, and are shown as not run."""
    pytest.importorskip("torch")
    from tests.targets_cuda.emulation import compile_without_gpu, emulated_gpu

    model = tmp_path / "small.onnx"
    _write(model)
    calls: list[tuple[str, str, dict[str, Any]]] = [
        (str(model), f"cuda:arch=sm_90,precision={precision}", {}) for precision in ("fp32", "fp16")
    ]
    by_precision = dict(zip(("fp32", "fp16"), compile_without_gpu(*calls), strict=True))

    def executable(row: cuda.Row, precision: str, *given: Any) -> Any:
        return by_precision[precision]

    monkeypatch.setattr(cuda, "executable", executable)
    monkeypatch.setattr(cuda, "model_file", lambda row: model)
    with emulated_gpu():
        command = [
            "--rows",
            "vgg16-cifar:0.1:1",
            "--rounds",
            "2",
            "--slice-ms",
            "0.1",
            "--json",
            str(tmp_path / "r.json"),
        ]
        assert cuda.main(command) == 0
        assert cuda.main([*command, "--check"]) == 1, "a figure that could not be measured is missed"
    record = json.loads((tmp_path / "r.json").read_text())
    errors = [figure for figure in record["figures"] if "relative error" in figure["name"]]
    assert len(errors) == 2 and all(figure["met"] for figure in errors)
    mine = next(r for case in record["cases"] for r in case["results"] if r["peer"] == "lhcc")
    assert len(mine["rounds_ms"]) == 2 and min(mine["rounds_ms"]) > 0
    assert all(r["error"] for case in record["cases"] for r in case["results"] if r["role"] == "rival")
    assert record["settings"]["gpu"]["name"] == "emulated"


BARE = """
import sys
for name in ("tvm", "tvm_ffi", "torch", "onnx"):
    sys.modules[name] = None
from benchmarks import cuda
from lhcc.runtime import cuda_driver
cuda_driver.LIBRARY, *arguments = sys.argv[1:]
code = cuda.main(arguments)
print("code", code)
"""


def _bare(library: str, *arguments: str) -> str:
    """What the benchmark prints where neither TVM nor PyTorch nor onnx can be imported."""
    command = [sys.executable, "-c", BARE, library, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_artifacts_are_checked_where_only_numpy_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.targets_cuda.emulation import compile_without_gpu, driver

    model = tmp_path / "small.onnx"
    _write(model)
    (executable,) = compile_without_gpu((str(model), "cuda:arch=sm_90,precision=fp16", {}))
    row = ("resnet34", 0.25, 64)
    executable.save(tmp_path / f"{cuda.title(row, 'fp16')}.lhcc")
    expected = cuda.reference(model, cuda.example(executable))
    arguments = ("--check", "--answers-only", "--artifacts", str(tmp_path), "--precisions", "fp16")
    assert "no NVIDIA driver" in (told := _bare("libnothing.so.1", *arguments)) and "code 2" in told
    np.save(cuda.answer_file(tmp_path, row), expected)
    told = _bare(str(driver()), *arguments)
    assert "resnet34-d0.25-b64-fp16: relative error" in told and "code 0" in told
    np.save(cuda.answer_file(tmp_path, row), expected + 1)
    told = _bare(str(driver()), *arguments)
    assert "missed: resnet34" in told and "code 1" in told
    told = _bare(str(driver()), *arguments, "--rows", "resnet50:0.25:64")
    assert "error: " in told and "code 2" in told


def test_artifacts_are_built_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Path] = []

    class Saved(argparse.Namespace):
        inputs = (argparse.Namespace(shape=(1, 2)),)

        def save(self, path: Path) -> None:
            path.write_bytes(b"x")
            saved.append(path)

    monkeypatch.setattr(cuda, "executable", lambda *arguments: Saved())
    monkeypatch.setattr(cuda, "model_file", lambda row: row)
    monkeypatch.setattr(cuda, "reference", lambda row, x: 2 * x)
    assert cuda.main(["--build", str(tmp_path / "made"), "--rows", "resnet34:0.25:64", "--precisions", "fp16"]) == 0
    assert [path.name for path in saved] == ["resnet34-d0.25-b64-fp16.lhcc"]
    row = ("resnet34", 0.25, 64)
    assert cuda.rows(None, tmp_path / "made") == [row]
    assert np.load(cuda.answer_file(tmp_path / "made", row)).shape == (1, 2)
