from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lhcc.runtime.build import build, pack
from lhcc.runtime.library import import_tvm
from lhcc.runtime.memory import ALIGNMENT


@pytest.mark.parametrize(("depth", "channels", "size"), [(1, 1, 1), (2, 5, 7), (6, 16, 9)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_chain_agrees_with_tvm(
    depth: int, channels: int, size: int, jobs: int, lower: Any, host_target: Any, conv_module: Any, reference: Any
) -> None:
    module = conv_module(depth, channels, size, seed=depth)
    executable = build(lower(module), host_target, jobs=jobs)
    (x,) = executable.random_inputs(1)
    np.testing.assert_allclose(executable(x), reference(module, x)[0], rtol=1e-5, atol=1e-6)


def branching_module() -> Any:
    """Two inputs; outputs that are an input, a reshaped input, a constant, one buffer twice, a reshaped temporary."""
    import_tvm()
    from tvm import relax

    a = relax.Var("a", relax.TensorType((2, 6), "float32"))
    b = relax.Var("b", relax.TensorType((2, 6), "float32"))
    k = relax.const(np.arange(12, dtype="float32").reshape(2, 6))
    builder = relax.BlockBuilder()
    with builder.function("main", [a, b]):
        with builder.dataflow():
            total = builder.emit(relax.op.add(a, b))
            scaled = builder.emit(relax.op.multiply(total, k))
            halves = builder.emit(relax.op.split(scaled, 2, axis=1))
            left, right = builder.emit(halves[0]), builder.emit(halves[1])
            joined = builder.emit(relax.op.concat([right, left, total], axis=1))
            flat = builder.emit(relax.op.reshape(joined, (24,)))
            back = builder.emit(relax.op.reshape(a, (3, 4)))
            out = builder.emit_output(relax.Tuple([flat, total, total, back, a, k, left]))
        builder.emit_func_output(out)
    return builder.get()


def test_views_copies_and_several_outputs(lower: Any, host_target: Any, reference: Any) -> None:
    module = branching_module()
    executable = build(lower(module), host_target, jobs=1)
    a, b = executable.random_inputs(3)
    results = executable(a, b)
    for got, expected in zip(results, reference(module, a, b), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert [spec.shape for spec in executable.outputs] == [got.shape for got in results]
    for i, result in enumerate(results):
        assert not any(np.shares_memory(result, other) for other in results[:i])


def test_outputs_belong_to_the_caller(lower: Any, host_target: Any) -> None:
    """Writing to results, keeping them and calling again must not disturb anything."""
    executable = build(lower(branching_module()), host_target, jobs=1)
    a, b = executable.random_inputs(4)
    first = executable(a, b)
    kept = [result.copy() for result in first]
    second = executable(b, b)
    for result in second:
        result[...] = np.nan
    for result, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(result, copy)
    for result, copy in zip(executable(a, b), kept, strict=True):
        np.testing.assert_array_equal(result, copy)


def test_a_model_without_kernels(host_target: Any, tmp_path: Path) -> None:
    """Nothing is left to compute: outputs are copies of the input, in its shape and in another."""
    from tvm import relax

    from lhcc.runtime.artifact import load

    x = relax.Var("x", relax.TensorType((2, 3), "int64"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(relax.Tuple([x, builder.emit(relax.op.reshape(x, (6,)))]))
        builder.emit_func_output(out)
    lowered = SimpleNamespace(mod=builder.get(), layers=[], reasons=[], modules=[])
    executable = build(lowered, host_target, output_names=["same", "flat"])
    executable.save(tmp_path / "empty.lhcc")
    given = np.arange(6).reshape(2, 3)
    for one in (executable, load(tmp_path / "empty.lhcc")):
        same, flat = one(given)
        np.testing.assert_array_equal(same, given)
        np.testing.assert_array_equal(flat, given.ravel())
        assert [spec.name for spec in one.outputs] == ["same", "flat"]
        assert not np.shares_memory(same, given)
    assert "0 of 0 multiply-adds" in str(executable.profile())


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "float16", "float64"])
def test_element_types(lower: Any, host_target: Any, dtype: str) -> None:
    from tvm import relax

    x = relax.Var("x", relax.TensorType((3, 5), dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            out = builder.emit_output(relax.op.permute_dims(x, [1, 0]))
        builder.emit_func_output(out)
    executable = build(lower(builder.get()), host_target, jobs=1)
    given = np.random.default_rng(0).integers(0, 2, (3, 5)).astype(dtype)
    result = executable(given)
    assert result.dtype == given.dtype
    np.testing.assert_array_equal(result, given.T)


def test_records_must_match_the_kernel_calls(lower: Any, host_target: Any, conv_module: Any) -> None:
    lowered = lower(conv_module())
    with pytest.raises(ValueError, match="layer records name the kernels"):
        build(type(lowered)(lowered.mod, lowered.layers[:2]), host_target, jobs=1)


def test_what_was_not_lowered_is_named(conv_module: Any) -> None:
    from lhcc.runtime.steps import read

    with pytest.raises(TypeError, match="was not lowered to a kernel call"):
        read(conv_module()["main"])


def test_packed_constants_are_aligned_and_exact() -> None:
    rng = np.random.default_rng(0)
    constants = [rng.standard_normal(n).astype("float32") for n in (1, 0, 17, 1000)]
    constants.append(np.array(3, dtype="int64"))
    memory, places = pack(constants)
    for constant, place in zip(constants, places, strict=True):
        assert place.offset % ALIGNMENT == 0
        np.testing.assert_array_equal(place.view(memory), constant)
        assert place.view(memory).dtype == constant.dtype
