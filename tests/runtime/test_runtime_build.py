from __future__ import annotations

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
