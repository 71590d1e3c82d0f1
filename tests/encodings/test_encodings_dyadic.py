"""The dyadic encoding: exact round trips for every dyadic tensor, and a refusal for every other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhcc.encodings import dyadic
from lhcc.encodings.adders import signed_digits


@st.composite
def dyadic_tensors(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """(float tensor, bits): alpha per filter times integers, as a framework would have stored it."""
    seed, bits = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 8))
    shape = draw(st.sampled_from([(1, 1), (3, 7), (4, 2, 3, 3), (5, 1, 1, 1), (2, 9, 5, 5)]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    free = draw(st.booleans())
    rng = np.random.default_rng(seed)
    n = rng.integers(-(2**bits) + 1, 2**bits, shape) * (rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0])))
    alpha = rng.lognormal(-3, 2, shape[0]) if free else np.exp2(rng.integers(-12, 4, shape[0]))
    alpha = alpha.astype(dtype).reshape((-1,) + (1,) * (len(shape) - 1))
    return (alpha * n.astype(dtype)).astype(dtype), bits


@given(dyadic_tensors())
@settings(max_examples=150, deadline=None)
def test_every_dyadic_tensor_comes_back_bit_for_bit(case: tuple[np.ndarray, int]) -> None:
    weight, bits = case
    encoded = dyadic.from_dense(weight, max_bits=bits)
    dense = encoded.to_dense()
    assert dense.dtype == weight.dtype
    np.testing.assert_array_equal(dense, weight)
    assert np.abs(encoded.integers).max(initial=0) < 2**bits


def test_powers_of_two_are_found_as_shifts() -> None:
    rng = np.random.default_rng(3)
    weight = (rng.choice([-2, -1, -0.5, 0, 0.5, 1, 2], (8, 4, 3, 3)) / 64).astype(np.float32)
    weight[0] = 3 / 64  # one level that is no power of two: the scale must still be one
    encoded = dyadic.from_dense(weight)
    assert encoded.exponents is not None
    np.testing.assert_array_equal(np.ldexp(encoded.integers, encoded.exponents.reshape(-1, 1, 1, 1)), weight)


def test_a_free_scale_survives_multiplication_in_double_precision() -> None:
    rng = np.random.default_rng(4)
    n = rng.integers(-15, 16, (16, 3, 3, 3))
    weight = (rng.uniform(0.01, 0.1, (16, 1, 1, 1)) * n).astype(np.float32)
    encoded = dyadic.from_dense(weight)
    np.testing.assert_array_equal(encoded.to_dense(), weight)
    for found, true in zip(encoded.integers, n, strict=True):
        assert np.array_equal(found * np.gcd.reduce(true.ravel()), true * np.gcd.reduce(found.ravel()))


def test_trained_looking_weights_are_refused_with_the_filter() -> None:
    rng = np.random.default_rng(5)
    weight = np.ones((4, 3, 3, 3), np.float32)
    weight[2] = rng.normal(size=(3, 3, 3))
    with pytest.raises(dyadic.NotDyadic, match="filter 2 is not a scale times integers of 9 bits"):
        dyadic.from_dense(weight)
    assert dyadic.recognise(weight) is None
    weight[2, 0, 0, 0] = np.nan
    with pytest.raises(dyadic.NotDyadic, match="filter 2 holds Inf or NaN"):
        dyadic.from_dense(weight)


def test_weights_of_too_many_bits_are_told_how_many() -> None:
    weight = np.ldexp(np.array([[1.0, 2.0], [3.0, (1 << 15) - 1]]), -9)  # 15 bits and a sign
    with pytest.raises(dyadic.NotDyadic, match="filter 1 .* of 13 bits, sign included, and takes 16 bits") as caught:
        dyadic.from_dense(weight, max_bits=12)
    assert "--weight-bits 13 at most" in str(caught.value)
    assert dyadic.from_dense(weight, max_bits=15).bits == 16


def test_one_ulp_off_is_not_dyadic() -> None:
    n = np.arange(1, 28).reshape(1, 3, 3, 3)
    weight = (np.float32(0.0137) * n.astype(np.float32)).astype(np.float32)
    assert dyadic.recognise(weight) is not None
    weight[0, 2, 2, 2] = np.nextafter(np.nextafter(weight[0, 2, 2, 2], np.float32(9)), np.float32(9))
    assert dyadic.recognise(weight) is None


def test_digit_count_is_the_number_of_canonical_signed_digits() -> None:
    numbers = np.arange(-300, 301)
    assert dyadic.digit_count(numbers).tolist() == [len(signed_digits(int(n))) for n in numbers]


def test_cost_counts_additions_per_filter() -> None:
    weight = np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.5, 0.25, -1.0]], np.float32)
    cost = dyadic.from_dense(weight).cost()
    assert (cost.nonzeros, cost.digits, cost.additions) == (5, 6, 4)
