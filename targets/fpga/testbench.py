"""A self-checking Verilog testbench with its vectors, so that a design simulates anywhere; and Icarus to run it."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lhcc.errors import ToolMissing
from lhcc.targets.fpga.stages import Pipeline
from lhcc.targets.fpga.verilog_top import TOP, port


def vectors(words: np.ndarray, bits: int) -> str:
    """Transfers of 32-bit words as $readmemh text."""
    digits = -(-bits // 4)
    return "".join(f"{''.join(f'{w:08x}' for w in reversed(row))[-digits:]}\n" for row in words.tolist())


def write_testbench(pipeline: Pipeline, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> dict[str, str]:
    """testbench.v and its vectors.  +seed=N +offer=P +accept=P set the shares of busy cycles in percent."""
    files: dict[str, str] = {}
    declare, pins, steps, checks, done = [], [".clk(clk)", ".rst(rst)"], [], [], []
    for k, (stream, words) in enumerate(zip(pipeline.inputs, inputs, strict=True)):
        p, n = port("s", k, len(inputs)), len(words)
        files[f"input{k}.mem"] = vectors(words, stream.word)
        declare += [
            f"  reg [{stream.word - 1}:0] in{k} [0:{n - 1}];",
            f"  integer sent{k} = 0;",
            f"  reg offer{k} = 0;",
            f"  wire ready{k};",
            f'  initial $readmemh("input{k}.mem", in{k});',
        ]
        pins += [f".{p}_tdata(in{k}[sent{k} < {n} ? sent{k} : 0])", f".{p}_tvalid(offer{k})", f".{p}_tready(ready{k})"]
        steps += [
            f"    if (offer{k} & ready{k}) begin sent{k} = sent{k} + 1; offer{k} <= 0; end",
            f"    if (!offer{k} | ready{k}) offer{k} <= sent{k} < {n} & chance(offering);",
        ]
    for k, (stream, words) in enumerate(zip(pipeline.outputs, outputs, strict=True)):
        p, n = port("m", k, len(outputs)), len(words)
        files[f"output{k}.mem"] = vectors(words, stream.word)
        declare += [
            f"  reg [{stream.word - 1}:0] out{k} [0:{n - 1}];",
            f"  integer got{k} = 0;",
            f"  reg accept{k} = 0;",
            f"  wire valid{k}, last{k};",
            f"  wire [{stream.word - 1}:0] data{k};",
            f'  initial $readmemh("output{k}.mem", out{k});',
        ]
        pins += [f".{p}_tdata(data{k})", f".{p}_tvalid(valid{k})", f".{p}_tready(accept{k})", f".{p}_tlast(last{k})"]
        checks += [
            f"    if (valid{k} & accept{k}) begin",
            f"      if (data{k} !== out{k}[got{k}]) begin",
            "        errors = errors + 1;",
            f'        $display("output {k}, transfer %0d: %h instead of %h", got{k}, data{k}, out{k}[got{k}]);',
            "      end",
            f"      got{k} = got{k} + 1;",
            "    end",
            f"    accept{k} <= chance(accepting);",
        ]
        done.append(f"got{k} == {n}")
    pins_text = ",\n    ".join(pins)
    files["testbench.v"] = "\n".join([
        "`timescale 1ns / 1ps",
        "module testbench;",
        "  reg clk = 0, rst = 1;",
        "  integer errors = 0, seed = 1, offering = 100, accepting = 100, cycles = 0;",
        *declare,
        "  function chance(input integer percent);",
        "    chance = percent >= 100 ? 1 : ($unsigned($random(seed)) % 100) < percent;",
        "  endfunction",
        f"  {TOP} dut (\n    {pins_text}\n  );",
        "  always #5 clk = !clk;",
        "  initial begin",
        '    if (!$value$plusargs("seed=%d", seed)) seed = 1;',
        '    if (!$value$plusargs("offer=%d", offering)) offering = 100;',
        '    if (!$value$plusargs("accept=%d", accepting)) accepting = 100;',
        "    repeat (4) @(posedge clk);",
        "    #1 rst = 0;",
        "  end",
        "  always @(posedge clk) if (!rst) begin",
        "    cycles = cycles + 1;",
        *steps,
        *checks,
        f"    if ({' & '.join(done)}) begin",
        '      if (errors == 0) $display("PASS %0d cycles", cycles); else $display("FAIL %0d errors", errors);',
        "      $finish;",
        "    end",
        '    if (cycles > 10000000) begin $display("FAIL no end"); $finish; end',
        "  end",
        "endmodule",
        "",
    ])  # fmt: skip
    files["Makefile"] = (
        f"sim:\n\tiverilog -g2005 -o sim.vvp testbench.v {TOP}.v\n\tvvp sim.vvp > sim.log\n\tcat sim.log\n"
        f"\t@grep -q ^PASS sim.log\n\n"
        f"synth:\n\tyosys -s synth.ys\n.PHONY: sim synth\n"
    )
    files["synth.ys"] = f"read_verilog {TOP}.v\nsynth_xilinx -family xc7 -nodsp -flatten -top {TOP}\nstat\n"
    return files


def run_icarus(
    files: Mapping[str, str], folder: Path, seed: int = 1, offer: int = 100, accept: int = 100, seconds: int = 60
) -> str:
    """The testbench's last line: PASS with its cycles, or what failed; `seconds` of processor time are allowed."""
    if not shutil.which("iverilog"):
        raise ToolMissing("Icarus Verilog is not installed", "install the package iverilog")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    compiled = folder / "sim.vvp"
    command = ["iverilog", "-g2005", "-o", str(compiled), str(folder / "testbench.v"), str(folder / f"{TOP}.v")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    run = ["vvp", "-n", str(compiled), f"+seed={seed}", f"+offer={offer}", f"+accept={accept}"]
    done = subprocess.run(
        run, check=True, capture_output=True, text=True, cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)),
    )  # fmt: skip
    return done.stdout.strip()
