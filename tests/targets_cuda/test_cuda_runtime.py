"""The runtime for GPUs on the emulator's driver: arrays in and out, artifacts, other pointers, profiles, mistakes."""

from __future__ import annotations

import ctypes
import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lhcc
from lhcc.errors import InputError, TargetError
from lhcc.frontend import import_model
from lhcc.ir.log import Log
from lhcc.pipeline import graph_passes, run
from lhcc.report.text import table
from lhcc.runtime import cuda_driver
from lhcc.runtime.cuda import CudaExecutable
from lhcc.targets import base
from tests.targets_cuda.emulation import compile_without_gpu, emulated_gpu

TARGET = "cuda:arch=sm_80"
OVERLAPPING = "cuda:arch=sm_90"  # a kernel may begin before the one before it has ended


def _model() -> Any:
    """A residual block, a pooling and a dense layer, and the input once more as a second output."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(
            (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name
        )

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["d"]),
        helper.make_node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "w3"], ["y"], transB=1),
        helper.make_node("Softmax", ["y"], ["z"]),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    outputs = [("z", (2, 7)), ("same", (2, 3, 9, 8))]
    graph = helper.make_graph(
        nodes, "block", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, 9, 8))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [weight("w1", 40, 3, 3, 3), weight("w2", 40, 40, 3, 3), weight("w3", 7, 40)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@functools.cache
def _compiled(target: str = TARGET) -> CudaExecutable:
    return compile_without_gpu((_model(), target, {}))[0]


@pytest.fixture
def gpu() -> Iterator[None]:
    with emulated_gpu():
        yield


@pytest.fixture
def x() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal((2, 3, 9, 8)).astype(np.float32)


@pytest.mark.parametrize("target", [TARGET, OVERLAPPING])
def test_outputs_agree_with_the_processor(gpu: None, x: np.ndarray[Any, Any], target: str) -> None:
    probabilities, same = _compiled(target)(x)
    expected, _ = lhcc.compile(_model())(x)
    assert np.linalg.norm(probabilities - expected) <= 1e-5 * np.linalg.norm(expected)
    assert np.array_equal(same, x) and same is not x


def test_tensors_of_the_processor_are_answered_in_kind(gpu: None, x: np.ndarray[Any, Any]) -> None:
    torch = pytest.importorskip("torch")
    probabilities, _ = _compiled()(x=torch.from_numpy(x))
    assert isinstance(probabilities, torch.Tensor)
    assert np.array_equal(probabilities.numpy(), _compiled()(x)[0])


def test_a_saved_model_answers_the_same(gpu: None, x: np.ndarray[Any, Any], tmp_path: Path) -> None:
    _compiled().save(tmp_path / "model.lhcc")
    loaded = lhcc.load(tmp_path / "model.lhcc")
    assert isinstance(loaded, CudaExecutable)
    assert np.array_equal(loaded(x)[0], _compiled()(x)[0])


def test_a_run_on_the_callers_memory_touches_no_other(gpu: None, x: np.ndarray[Any, Any]) -> None:
    """What happens with PyTorch's tensors: the graph's kernels get other pointers, and get the old ones back."""
    executable = _compiled()
    expected = executable(x)
    loaded = executable.loaded()
    driver = loaded.driver
    inputs = [driver.allocate(spec.nbytes) for spec in executable.inputs]
    outputs = [driver.allocate(spec.nbytes) for spec in executable.outputs]
    double = 2 * x
    driver.upload(inputs[0], double.ctypes.data, x.nbytes)
    loaded.run(tuple(inputs), tuple(outputs), driver.stream())
    got = [np.empty(spec.shape, np.float32) for spec in executable.outputs]
    for array, pointer in zip(got, outputs, strict=True):
        driver.download(array.ctypes.data, pointer, array.nbytes)
    assert np.array_equal(got[1], double) and not np.array_equal(got[0], expected[0])
    assert np.array_equal(executable(x)[0], expected[0])
    for pointer in (*inputs, *outputs):
        driver.free(pointer)


def _called(driver: Any) -> list[str]:
    """The functions of the driver that were called since this was asked last, with their streams."""
    driver.library.noted_calls.restype = ctypes.c_char_p
    return driver.library.noted_calls().decode().split("\n")[:-1]  # type: ignore[no-any-return]


def test_what_the_driver_is_asked_for(gpu: None, x: np.ndarray[Any, Any]) -> None:
    """Weights go to the GPU once; a run is one launch of a graph, and nothing waits but who wants arrays back."""
    executable = CudaExecutable(_compiled().program)
    _called(cuda_driver.Driver())
    loaded = executable.loaded()
    driver, stream = loaded.driver, loaded.stream
    memories, kernels = 2 + len(executable.inputs) + len(executable.outputs), len(executable.program.calls)
    assert _called(driver) == [
        "cuModuleLoadData", "cuMemAlloc_v2", f"cuMemcpyHtoDAsync_v2 {stream}", *["cuMemAlloc_v2"] * (memories - 1),
        *["cuGraphAddKernelNode_v2"] * kernels, "cuGraphInstantiateWithFlags", f"cuStreamSynchronize {stream}",
    ]  # fmt: skip
    copy = [f"cuMemcpyDtoDAsync_v2 {stream}"] * len(executable.program.copies)
    for _ in range(2):
        executable(x)
        assert _called(driver) == [
            f"cuMemcpyHtoDAsync_v2 {stream}", f"cuGraphLaunch {stream}", *copy, f"cuEventRecord {stream}",
            *[f"cuMemcpyDtoHAsync_v2 {stream}"] * len(executable.outputs), f"cuStreamSynchronize {stream}",
        ]  # fmt: skip
    theirs = driver.stream()
    places = tuple(driver.allocate(spec.nbytes) for spec in (*executable.inputs, *executable.outputs))
    _called(driver)
    loaded.run(places[:1], places[1:], theirs)
    loaded.run(places[:1], places[1:], theirs)
    first, second = " ".join(_called(driver)).split(f"cuStreamWaitEvent {theirs} ")
    assert set(first.split()) == {"cuGraphExecKernelNodeSetParams_v2"}, "its kernels get the pointers of the caller"
    run = [f"cuGraphLaunch {theirs}", *[f"cuMemcpyDtoDAsync_v2 {theirs}"] * len(copy), f"cuEventRecord {theirs}"]
    assert second == " ".join(run * 2), "once it waits for the run before, which used the same memory"
    executable.close()


@pytest.mark.parametrize(("target", "version", "overlaps"), [
    (TARGET, 13000, False), (OVERLAPPING, 13000, True), (OVERLAPPING, 12020, False),
])  # fmt: skip
def test_kernels_overlap_where_code_and_driver_can(gpu: None, target: str, version: int, overlaps: bool) -> None:
    executable = CudaExecutable(_compiled(target).program)
    driver = cuda_driver.Driver()
    driver.library.set_version(version)
    try:
        _called(driver)
        executable.loaded()
        edges, kernels = _called(driver).count("cuGraphAddDependencies_v2"), len(executable.program.calls)
    finally:
        driver.library.set_version(13000)
    assert edges == (kernels - 1 if overlaps else 0) and kernels > 1
    executable.close()


def test_memory_is_given_back_and_taken_again(gpu: None, x: np.ndarray[Any, Any]) -> None:
    before = _compiled()(x)[0]
    _compiled().close()
    assert np.array_equal(_compiled()(x)[0], before)


def test_the_profile_names_every_layer(gpu: None, x: np.ndarray[Any, Any]) -> None:
    profile = _compiled().profile(x, repeats=3)
    assert [layer.name for layer in profile.layers] == [layer.name for layer in _compiled().layers]
    assert all(layer.time_us > 0 for layer in profile.layers) and profile.processor == "emulated"
    assert profile.peak is not None and "data sheet" in table(profile)
    json.dumps(profile.json())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: x.astype(np.float64), "float64"),
        (lambda x: x[:1], r"float32\[1, 3, 9, 8\]"),
        (lambda x: x.tolist(), "list"),
    ],
)
def test_a_wrong_input_is_told(wrong: Any, words: str, x: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InputError, match=words):
        _compiled()(wrong(x))


def test_without_a_driver_there_is_one_sentence(x: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libnothing.so.1")
    executable = CudaExecutable(_compiled().program)
    with pytest.raises(TargetError, match="has no NVIDIA driver"):
        executable(x)


def test_code_for_another_gpu_is_one_sentence(gpu: None, x: np.ndarray[Any, Any]) -> None:
    executable = CudaExecutable(replace(_compiled().program, code=b"made for something else"))
    with pytest.raises(TargetError, match=r"is sm_90.*\n.*arch=sm_90"):
        executable(x)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("cuda:arch=sm_70", "sm_70"),
        ("cuda:arch=hopper", "hopper"),
        ("cuda:precision=fp8", "fp8"),
        ("cuda:arch=sm_75,precision=bf16", "no matrix instructions for bf16"),
        ("cuda:archs=sm_80", "did you mean 'arch'"),
    ],
)
def test_a_wrong_target_is_told(target: str, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        lhcc.compile("missing.onnx", target)


@pytest.mark.parametrize(("precision", "first"), [("fp16", "conv2d_0"), ("tf32", "unfold_0")])
def test_the_graph_is_verified_up_to_the_encoding(precision: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHCC_VERIFY", "2")
    target = base.parse(f"cuda:precision={precision}")
    options = base.Options()
    order = [*graph_passes(), *target.layout_passes(options), *target.lowering_passes(options)]
    lowered = run(import_model(_model(), None, None), order, Log())
    assert {str(gv.name_hint) for gv in lowered.functions} >= {"main", first, "from_blocked_0"}
