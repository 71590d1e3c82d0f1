# mypy: disable-error-code="valid-type, no-untyped-def, untyped-decorator"
"""The kernels that find the machine's limits: multiply-adds in registers, and sums over memory."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T


def row_length(size: int, threads: int, lanes: int) -> int:
    """Floats per thread of a block of `size` bytes, in whole groups of eight vectors."""
    return size // 4 // threads // (8 * lanes) * 8 * lanes


def fma_kernel(lanes: int, chains: int, threads: int, rounds: int) -> Any:
    """Independent chains of multiply-adds in registers: enough of them to hide the latency of each."""

    @T.prim_func(s_tir=True)
    def fma(
        x: T.Buffer((lanes,), "float32"),
        y: T.Buffer((lanes,), "float32"),
        out: T.Buffer((threads, chains, lanes), "float32"),
    ):
        for thread in T.parallel(threads):
            total = T.alloc_buffer((chains, lanes), "float32", scope="global")
            for i in T.unroll(chains):
                for v in T.vectorized(lanes):
                    total[i, v] = y[v]
            for _ in T.serial(rounds):
                for i in T.unroll(chains):
                    for v in T.vectorized(lanes):
                        total[i, v] = total[i, v] * x[v] + y[v]
            for i in T.unroll(chains):
                for v in T.vectorized(lanes):
                    out[thread, i, v] = total[i, v]

    return fma


def sum_kernel(lanes: int, threads: int, size: int) -> Any:
    """Sums the first `steps` * 8 vectors of each thread's row, `rounds` times."""
    floats = row_length(size, threads, lanes)

    @T.prim_func(s_tir=True)
    def total_of(
        data: T.Buffer((threads, floats), "float32"),
        out: T.Buffer((threads, 8, lanes), "float32"),
        steps: T.int32,
        rounds: T.int32,
    ):
        for thread in T.parallel(threads):
            total = T.alloc_buffer((8, lanes), "float32", scope="global")
            for i in T.unroll(8):
                for v in T.vectorized(lanes):
                    total[i, v] = T.float32(0)
            for _ in T.serial(rounds):
                for step in T.serial(steps):
                    for i in T.unroll(8):
                        for v in T.vectorized(lanes):
                            total[i, v] = total[i, v] + data[thread, step * (8 * lanes) + i * lanes + v]
            for i in T.unroll(8):
                for v in T.vectorized(lanes):
                    out[thread, i, v] = total[i, v]

    return total_of
