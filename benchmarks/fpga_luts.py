"""LUTs by Yosys: our area model against it, and our adder graphs against the peers' in the same Verilog.

`python -m benchmarks.fpga_luts` synthesises layers of every kind (`synth_xilinx -family xc7 -nodsp`) and compares the
model with what comes out. `--graphs` takes the LHC blocks of `benchmarks.adders`: our graph and, where alkaid and da4ml
are installed, theirs with the setting that gave the fewest adders, all written by our emitter at 100 MHz.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adders import fixed_matrices
from lhcc.encodings.adders import AdderGraph, solve
from lhcc.encodings.adders.peer import network_of
from lhcc.integer import Builder, Program
from lhcc.targets.fpga import FpgaOptions, compile_program
from lhcc.targets.fpga.arithmetic import graph_terms
from lhcc.targets.fpga.cost import area, logic_luts
from lhcc.targets.fpga.netlist import Netlist
from lhcc.targets.fpga.stages import FifoStage
from lhcc.targets.fpga.synthesis import stage_cells
from lhcc.targets.fpga.timing import schedule
from lhcc.targets.fpga.verilog_logic import LogicWriter
from lhcc.targets.fpga.yosys import Cells, synthesise

PEERS = Path(__file__).with_name("results") / "adders.json"
"""which setting served the peers best"""
WEIGHTS = {"dyadic": [-2, -1, 1, 2], "two digits": [1, -1, 2, 3, -4, 6, -12, 5], "int4": range(-8, 8),
           "int8": range(-128, 128)}  # fmt: skip


def layers() -> Iterator[tuple[str, str, Program]]:
    """(name, form, program)"""
    yield "dyadic, density 0.3", "direct", _layer("dyadic", 3, 0.3)
    yield "dyadic", "transposed", _layer("dyadic", 3, 1.0)
    yield "two digits, density 0.3", "hybrid-columns", _layer("two digits", 3, 0.3)
    yield "int4", "direct", _layer("int4", 3, 1.0)
    yield "int8, 1x1", "direct", _layer("int8", 1, 1.0)
    yield "two digits, stride 2, relu", "direct", _layer("two digits", 3, 0.5, stride=2, relu=True)
    yield "maximum of 2x2", "direct", _pooled()
    yield "residual", "direct", _residual()
    yield "dense head", "direct", _head()


def _layer(kind: str, kernel: int, density: float, stride: int = 1, relu: bool = False) -> Program:
    rng = np.random.default_rng(kernel)
    b = Builder()
    x = b.input("x", (8, 8, 8), 8, 0)
    weight = rng.choice(np.array(WEIGHTS[kind]), (kernel, kernel, 8, 6))
    weight = weight * (rng.random((kernel, kernel, 8, 1)) < density)
    pad = kernel // 2
    y = b.conv("conv", x, weight, rng.integers(-50, 50, 6), 0, (stride, stride), (pad, pad, pad, pad))
    return b.build(b.requantise("round", b.relu("relu", y) if relu else y, 5, 0, 255))


def _pooled() -> Program:
    b = Builder()
    return b.build(b.max_pool("pool", b.input("x", (8, 8, 16), 8, 0), (2, 2)))


def _residual() -> Program:
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", (8, 8, 8), 8, 0)
    y = b.conv("conv", x, rng.choice([0, 0, 1, -1, 2], (1, 1, 8, 8)))
    return b.build(b.requantise("round", b.add("join", y, x), 1, 0, 255))


def _head() -> Program:
    rng = np.random.default_rng(0)
    b = Builder()
    return b.build(b.dense("head", b.input("x", (24,), 8, 0), rng.choice([-2, -1, 0, 1, 2, 3], (24, 10))))


def compare_layers() -> list[dict[str, Any]]:
    rows = list[dict[str, Any]]()
    for name, form, program in layers():
        for stage in compile_program(program, FpgaOptions(reuse=1, form=form, max_luts=1_000_000)).pipeline.stages:
            if isinstance(stage, FifoStage):
                continue
            cells = stage_cells(stage)
            adders, model = getattr(stage, "adders", 0), area(stage).luts
            error = model / max(1, cells.luts) - 1
            rows.append({"layer": name, "stage": stage.name, "adders": adders, "model": model, "yosys": cells.luts,
                         "error": error, "cells": dict(cells.counts)})  # fmt: skip
            print(f"{name:28} {stage.name:10} {adders:5} adders {model:6} LUTs by the model {cells.luts:6} by Yosys "
                  f"{error:+7.1%}", flush=True)  # fmt: skip
    return rows


def compare_graphs(only: str, seconds: float, path: Path | None, resume: bool) -> list[dict[str, Any]]:
    settings = {r["name"]: r["peer"]["setting"] for r in json.loads(PEERS.read_text())["rows"] if r["group"] == "lhc"}
    known = {row["block"]: row for row in json.loads(path.read_text())} if resume and path and path.exists() else {}
    rows = list[dict[str, Any]]()
    for _, name, matrix in fixed_matrices(["lhc"]):
        if name not in known and only not in name:
            continue
        rows.append(known.get(name) or _compared(name, matrix, seconds, settings[name]))
        print(json.dumps(rows[-1]), flush=True)
        if path:
            _write(path, rows)
    if rows:
        mean = math.exp(sum(math.log(1 + r["gain"]) for r in rows) / len(rows)) - 1
        print(f"geometric mean {mean:+.2%} LUTs")
    return rows


def _compared(name: str, matrix: np.ndarray, seconds: float, setting: str) -> dict[str, Any]:
    ours = solve(matrix, seconds, peers=False)
    row: dict[str, Any] = {"block": name, "adders": ours.adders, **_lutted("", ours, matrix)}
    for peer, graph in _peers(matrix, setting):
        row |= {f"{peer}_adders": graph.adders, **_lutted(f"{peer}_", graph, matrix)}
    theirs = [row[k] for k in ("alkaid_luts", "da4ml_luts") if k in row]
    return row | {"gain": row["luts"] / min(theirs) - 1 if theirs else math.nan}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1) + "\n")


def _peers(matrix: np.ndarray, setting: str) -> Iterator[tuple[str, AdderGraph]]:
    """The graphs of both with the setting that was the better one's best."""
    chosen = dict(part.split("=") for part in setting.split()[1:])
    options = {"method0": chosen["method0"], "hard_dc": int(chosen["hard_dc"]),
               "search_all_decompose_dc": chosen["search_all_decompose_dc"] == "True"}  # fmt: skip
    for peer, function in (("alkaid", "cmvm_solve"), ("da4ml", "solve")):
        try:
            call = getattr(importlib.import_module(f"{peer}.cmvm"), function)
        except ImportError as error:  # also where something that it needs is missing
            print(f"{peer} is not among the peers: {error}", file=sys.stderr)
            continue
        answer = call(np.ascontiguousarray(matrix, dtype=np.float32), **options)
        graph = AdderGraph.from_network(network_of(getattr(answer, "solutions", answer), len(matrix)))
        assert graph.computes(matrix), peer
        yield peer, graph


def _lutted(prefix: str, graph: AdderGraph, matrix: np.ndarray) -> dict[str, Any]:
    net = Netlist()
    inputs = [net.input(k, -128, 127) for k in range(len(matrix))]
    net.outputs = [net.value(t) for t in graph_terms(net, inputs, graph)]
    cells = _graph_cells(net, len(matrix))
    return {f"{prefix}luts": cells.luts, f"{prefix}model": logic_luts(net), f"{prefix}depth": graph.depth,
            f"{prefix}full_adder_bits": net.full_adder_bits()}  # fmt: skip


def _graph_cells(net: Netlist, inputs: int) -> Cells:
    """The netlist between registers, pipelined for 100 MHz."""
    plan = schedule(net, 10.0)
    writer = LogicWriter(net, plan, {k: f"held[{8 * k}+:8]" for k in range(inputs)})
    bits = max(net.nodes[k].bits for k in net.outputs)
    text = [
        f"module graph (input wire clk, input wire advance, input wire [{8 * inputs - 1}:0] in_data,",
        f"  output reg [{bits * len(net.outputs) - 1}:0] out_data);",
        f"  reg [{8 * inputs - 1}:0] held;",
        "  always @(posedge clk) if (advance) held <= in_data;",
        *writer.body(),
        f"  always @(posedge clk) if (advance) out_data <= {writer.outputs(bits)};",
        "endmodule",
    ]
    return synthesise({"graph.v": "\n".join(text)}, "graph")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", action="store_true", help="adder graphs instead of layers")
    parser.add_argument("--only", default="", help="blocks whose name contains this")
    parser.add_argument("--seconds", type=float, default=10.0, help="search time per block (default 10)")
    parser.add_argument("--json", type=Path, help="write the rows here; those of graphs one by one")
    parser.add_argument("--resume", action="store_true", help="keep the rows of graphs that are there already")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure that is asked for is missed")
    arguments = parser.parse_args()
    if arguments.graphs:
        rows = compare_graphs(arguments.only, arguments.seconds, arguments.json, arguments.resume)
        missed = math.prod(1 + r["gain"] for r in rows) ** (1 / max(1, len(rows))) > 0.97
    else:
        rows = compare_layers()
        if arguments.json:
            _write(arguments.json, rows)
        missed = any(abs(r["error"]) > 0.08 for r in rows)
    return int(arguments.check and missed)


if __name__ == "__main__":
    sys.exit(main())
