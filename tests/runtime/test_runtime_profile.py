from __future__ import annotations

import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhcc.runtime import peak as peak_module
from lhcc.runtime import threads
from lhcc.runtime.executable import SMALL
from lhcc.runtime.peak import Peak
from lhcc.runtime.profile import summarise

LIMIT = Peak(100.0, ((1 << 15, 200.0), (1 << 20, 50.0), (1 << 26, 10.0)))


@pytest.fixture(autouse=True)
def known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lhcc.runtime.profile.peak", lambda threads: LIMIT)


@pytest.fixture(scope="module")
def deep(lower: Any, host_target: Any, conv_module: Any) -> Any:
    from lhcc.runtime.build import build

    return build(lower(conv_module(8, 16, 12)), host_target, jobs=1)


def test_calls_read_the_inputs_that_they_are_given(lower: Any, host_target: Any, conv_module: Any) -> None:
    """Large ones are read where they lie, and none of them is kept."""
    from lhcc.runtime.build import build
    from lhcc.runtime.memory import allocate

    executable = build(lower(conv_module(2, 16, 96)), host_target, jobs=1)
    spec = executable.inputs[0]
    assert spec.nbytes > SMALL
    first, second = (allocate(spec.nbytes).view(spec.dtype).reshape(spec.shape) for _ in range(2))
    first[...], second[...] = executable.random_inputs(1)[0], executable.random_inputs(2)[0]
    expected = executable(second)
    executable(first)
    calls = executable.calls(second)
    for kernel, args in calls:
        kernel(*args)
    np.testing.assert_array_equal(np.from_dlpack(calls[-1][1][-1]), expected)


def tries() -> Iterator[int]:
    """A busy machine may spoil a measurement, but hardly all of these."""
    for number in range(10):
        time.sleep(0.1 * number)
        yield number


def test_profile_has_a_line_per_layer_and_sums_to_the_whole(deep: Any) -> None:
    for _ in tries():
        profile = deep.profile()
        assert [layer.name for layer in profile.layers] == [layer.name for layer in deep.layers]
        assert sum(layer.share for layer in profile.layers) == pytest.approx(1)
        if abs(profile.sum_us / profile.total_us - 1) < 0.10:
            return
    pytest.fail(f"sum {profile.sum_us:.1f} us, end to end {profile.total_us:.1f} us")


def test_timing_every_layer_costs_little(deep: Any) -> None:
    assert any(deep.profile().overhead_percent < 3 for _ in tries())


def test_figures_follow_from_the_times(conv_executable: Any) -> None:
    samples = [(10.0, 20.0, 30.0), (12.0, 20.0, 30.0), (11.0, 90.0, 30.0)]
    profile = summarise(conv_executable, [(60.0,), (61.0,), (99.0,)], [(58.0,), (59.0,), (57.0,)], samples)
    first, second, _ = profile.layers
    assert profile.call_us == pytest.approx(3)
    assert profile.overhead_percent == pytest.approx(100 * (62 / 58 - 1))  # medians of 60, 62, 130 and of 57, 58, 59
    assert (first.time_us, second.time_us, profile.total_us, profile.sum_us) == (11.0, 20.0, 61.0, 61.0)
    assert first.gflops == pytest.approx(2 * 500 / 11e-6 / 1e9)
    assert first.peak_percent == pytest.approx(first.gflops)  # of 100 GFLOP/s
    assert first.bandwidth_percent == pytest.approx(100 * 4096 / 11e-6 / 200e9)
    assert first.bound == "memory"  # 1000 operations on 4096 bytes
    assert first.share == pytest.approx(11 / 61)


def test_bandwidth_is_that_of_the_level_that_holds_the_bytes() -> None:
    assert [LIMIT.bandwidth(size) for size in (0, 1 << 15, (1 << 15) + 1, 1 << 26, 1 << 30)] == [200, 200, 50, 10, 10]


@pytest.mark.slow
def test_peak_is_measured_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = peak_module.peak(1)
    assert measured is not None and measured.gflops > 1
    speeds = [speed for _, speed in measured.bandwidths]
    assert speeds[0] > speeds[-1] > 0.1
    monkeypatch.setattr(peak_module, "measure", lambda threads: pytest.fail("measured again"))
    assert peak_module.peak(1) == measured


def test_without_a_compiler_there_is_no_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(peak_module, "_has_compiler", lambda: False)
    assert peak_module.peak(1) is None


def test_the_thread_pool_is_set_without_pinning() -> None:
    from lhcc.runtime.library import global_function

    workers, allowed = global_function("runtime.NumThreads"), os.sched_getaffinity(0)
    for count in (2, 1, 2):
        threads.use(count)
        assert workers() == count
    seen: list[int] = []

    def elsewhere() -> None:
        threads.use(1)
        seen.append(workers())

    other = threading.Thread(target=elsewhere)
    other.start()
    other.join()
    assert (seen, workers()) == ([1], 2)  # every thread has its own
    assert os.sched_getaffinity(0) == allowed  # and nothing was pinned to a core


def test_profiling_does_not_slow_the_runs_in_between(deep: Any) -> None:
    """What is printed as end to end must be the time of a plain call."""
    (x,) = deep.random_inputs()
    for _ in tries():
        profile = deep.profile(x)
        plain = statistics.median(_time(deep, x) for _ in range(30))
        if profile.total_us < 1.1 * plain:
            return
    pytest.fail(f"end to end {profile.total_us:.1f} us, a plain call {plain:.1f} us")


def _time(executable: Any, x: Any) -> float:
    start = time.perf_counter()
    executable(x)
    return (time.perf_counter() - start) * 1e6


def test_two_executables_take_turns(conv_executable: Any, tmp_path: Path) -> None:
    from lhcc.runtime.compare import compare

    path = tmp_path / "same.lhcc"
    conv_executable.save(path)
    for _ in tries():
        compared = compare(conv_executable, str(path), "model.onnx", repeats=40)
        if 0.4 < compared.speedup < 2.5:
            break
    assert 0.4 < compared.speedup < 2.5
    assert set(compared.other_layers) == {layer.name for layer in conv_executable.layers}
    data = json.loads(json.dumps(compared.json()))
    assert data["against"]["speedup"] == compared.speedup
    assert "times as fast" in str(compared)


def test_nodes_that_onnxruntime_fused_are_found_in_the_model(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    from lhcc.runtime.onnxruntime_session import _names

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("Add", ["c", "x"], ["s"], name="add"),
        helper.make_node("Relu", ["s"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2]),
    ]
    tensors = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4]) for name in "xwp"}
    graph = helper.make_graph(nodes, "g", [tensors["x"], tensors["w"]], [tensors["p"]])
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    name_of = _names(str(tmp_path / "m.onnx"))
    assert name_of("r_nchwc", "Conv") == "first"
    assert name_of("fused first", "FusedConv") == "first"
    assert name_of("p_nchwc", "MaxPool") == "pool"
    assert name_of("ReorderOutput", "ReorderOutput") == "ReorderOutput"
