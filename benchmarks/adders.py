"""How many adders a constant matrix takes, ours against alkaid and da4ml: `python -m benchmarks.adders [--seconds 10]`.

The matrices are fixed: 12 LHC blocks (all taps of a block dense, trained-like weights of 1 or 2 signed digits), dyadic
matrices over {0, +-1/2, +-1, +-2}, and uniform int4, int6 and int8. The peers run with every setting of the grid below,
on the matrix and (for information) on its transpose; ours starts from nothing of theirs. Adders are counted the same
way for all: two-operand additions, shifts and output signs free. Where ours is deeper than the peers' best graph, it is
solved again with that depth as its cap; `--depths` holds ours to every depth at which a peer has a point.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import origin
from lhcc.encodings.adders import AdderGraph, solve

Matrix = NDArray[np.int64]
GRID = [(method, slack, every) for method in ("mc", "wmc") for slack in (-1, 0, 2) for every in (False, True)]
GRID += [(method, -1, every) for method in ("mc-dc", "wmc-dc") for every in (False, True)]
UNCAPPED = [setting for setting in GRID if setting[1] == -1 and "dc" not in setting[0]]
"""(method0, hard_dc, search_all_decompose_dc): the peers' settings; the slack variants bound their depth."""
GROUPS = ("lhc", "dyadic", "int")
SHAPES = ((8, 8), (16, 16), (32, 32), (72, 16), (144, 32))


def few_digits(rng: np.random.Generator, shape: tuple[int, int], digits: int, bits: int = 8) -> Matrix:
    """Normally distributed weights, each rounded to the nearest power of two `digits` times over."""
    weights = rng.normal(size=shape)
    rest = weights / np.abs(weights).max() * (2 ** (bits - 1) - 1)
    total = np.zeros(shape)
    for _ in range(digits):
        size = np.exp2(np.round(np.log2(np.maximum(np.abs(rest), 0.5))))
        step = np.where(np.abs(rest) >= 0.5, np.copysign(size, rest), 0.0)
        total += step
        rest -= step
    return total.astype(np.int64)


def fixed_matrices(groups: Iterable[str] = GROUPS) -> Iterator[tuple[str, str, Matrix]]:
    """(group, name, matrix of shape (inputs, outputs)), always the same."""
    for group in groups:
        if group == "lhc":
            for (inputs, outputs), taps, digits in itertools.product(((32, 16), (64, 32)), (1, 2, 3), (1, 2)):
                rng = np.random.default_rng([inputs, taps, digits])
                yield (
                    group,
                    f"{inputs}x{outputs} {taps} taps {digits} digits",
                    few_digits(rng, (taps * inputs, outputs), digits),
                )
        elif group == "dyadic":
            for shape, density in itertools.product(SHAPES, (0.1, 0.3, 1.0)):
                rng = np.random.default_rng([*shape, int(density * 10)])
                values = rng.choice([-4, -2, -1, 1, 2, 4], size=shape) * (rng.random(shape) < density)
                yield group, f"{shape[0]}x{shape[1]} density {density:g}", values.astype(np.int64)
        else:
            for shape, bits in itertools.product(SHAPES, (4, 6, 8)):
                rng = np.random.default_rng([*shape, bits])
                yield (
                    group,
                    f"{shape[0]}x{shape[1]} int{bits}",
                    rng.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), shape),
                )


@dataclass
class Point:
    """One graph of a peer: how many adders at which depth, and how it was asked for."""

    adders: int
    depth: int
    setting: str


@dataclass
class Row:
    group: str
    name: str
    adders: int = 0
    depth: int = 0
    full_adder_bits: int = 0
    seconds: float = 0.0
    peer: Point | None = None
    peer_transposed: Point | None = None
    at_depth: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Depth cap -> (the peers' best at most that deep, ours)."""

    @classmethod
    def read(cls, record: dict[str, Any]) -> Row:
        points = {key: Point(**record[key]) if record[key] else None for key in ("peer", "peer_transposed")}
        depths = {int(depth): tuple(pair) for depth, pair in record["at_depth"].items()}
        return cls(**{k: v for k, v in record.items() if k != "gain"} | points | {"at_depth": depths})

    @property
    def gain(self) -> float:
        return self.adders / self.peer.adders if self.peer and self.peer.adders else math.nan

    @property
    def behind(self) -> bool:
        """Does a peer need fewer additions, at any depth or at one of those compared?"""
        pairs = [(self.peer.adders, self.adders), *self.at_depth.values()] if self.peer else []
        return any(ours > theirs for theirs, ours in pairs)


def peer_points(matrix: Matrix, settings: Iterable[tuple[str, int, bool]]) -> list[Point]:
    """What alkaid and da4ml make of the matrix with these settings."""
    points = []
    kernel = np.ascontiguousarray(matrix, dtype=np.float32)
    for name, function in (("alkaid", "cmvm_solve"), ("da4ml", "solve")):
        try:
            call = getattr(importlib.import_module(f"{name}.cmvm"), function)
        except ImportError:
            continue
        for method, slack, every in settings:
            setting = f"{name} method0={method} hard_dc={slack} search_all_decompose_dc={every}"
            try:
                answer = call(kernel, method0=method, hard_dc=slack, search_all_decompose_dc=every)
            except (RuntimeError, ValueError):
                continue
            points.append(Point(*_count(getattr(answer, "solutions", answer), len(matrix)), setting))
    return points


def _count(stages: Any, inputs: int) -> tuple[int, int]:
    """(additions, depth) of a peer's chain of stages."""
    adders, levels = 0, [0] * inputs
    for stage in stages:
        inner: list[int] = []
        for op in stage.ops:
            first, *others = (
                op.addr if hasattr(op, "addr") and op.addr else (getattr(op, "id0", -1), getattr(op, "id1", -1))
            )
            if op.opcode == -1:
                inner.append(levels[op.data[0] if hasattr(op, "addr") else first])
            elif op.opcode in (0, 1):
                adders += 1
                inner.append(1 + max(inner[first], inner[others[0]]))
            else:
                raise ValueError(f"opcode {op.opcode} is not an addition")
        levels = [inner[i] if i >= 0 else 0 for i in stage.out_idxs]
    return adders, max(levels, default=0)


def _best(points: Iterable[Point], deepest: int | None = None) -> Point | None:
    return min(
        (p for p in points if deepest is None or p.depth <= deepest), key=lambda p: (p.adders, p.depth), default=None
    )


def measure(group: str, name: str, matrix: Matrix, seconds: float, depths: bool, peers: Mapping[str, Any]) -> Row:
    """Ours beside the peers' points: `best`, `turned` and, where every depth is to be compared, `all`."""
    start = time.thread_time()
    graph: AdderGraph = solve(matrix, seconds, peers=False)
    row = Row(group, name, graph.adders, graph.depth, graph.full_adder_bits, time.thread_time() - start)
    if not graph.computes(matrix):
        raise AssertionError(f"{name}: wrong graph")
    row.peer, row.peer_transposed = peers.get("best"), peers.get("turned")
    if row.peer is None:
        return row
    points = peers["all"] if depths else [row.peer]
    for depth in sorted({point.depth for point in points}):
        theirs = _best(points, depth)
        ours = graph if graph.depth <= depth else solve(matrix, seconds, max_depth=depth, peers=False)
        row.at_depth[depth] = (theirs.adders if theirs else -1, ours.adders)
    return row


def asked(matrix: Matrix) -> dict[str, Any]:
    """The peers' points for a matrix, now."""
    points = peer_points(matrix, GRID)
    turned = _best(peer_points(matrix.T, UNCAPPED))
    if turned is not None:
        extra = int(np.count_nonzero(matrix.any(axis=1))) - int(np.count_nonzero(matrix.any(axis=0)))
        turned = Point(turned.adders + extra, turned.depth, turned.setting)
    return {"all": points, "best": _best(points), "turned": turned}


def _rows(path: Path) -> dict[tuple[str, str], Row]:
    """Of an earlier run of this benchmark."""
    report = json.loads(path.read_text())
    differ = {k: v for k, v in _versions().items() if k != "python" and v not in ("absent", report["versions"][k])}
    if differ:
        raise SystemExit(f"{path} was made with other versions than {differ}")
    return {(row["group"], row["name"]): Row.read(row) for row in report["rows"]}


def _write(path: Path, rows: Sequence[Row], seconds: float) -> None:
    found = [asdict(row) | {"gain": row.gain} for row in rows]
    report = {**origin(), "seconds": seconds, "versions": _versions(), "rows": found}
    path.write_text(json.dumps(report, indent=1) + "\n")


def _line(row: Row) -> str:
    peer = f"{row.peer.adders:6d} {row.peer.depth:5d}" if row.peer else f"{'-':>6} {'-':>5}"
    turned = f"{row.peer_transposed.adders:7d}" if row.peer_transposed else f"{'-':>7}"
    deeper = "".join(f"  d{depth}: {theirs}/{ours}" for depth, (theirs, ours) in row.at_depth.items())
    gain = f"{(row.gain - 1) * 100:+6.1f} %" if row.peer else f"{'-':>8}"
    ours = f"{row.adders:6d} {row.depth:5d} {row.full_adder_bits:8d}"
    return f"{row.group:7} {row.name:24} {ours} {peer} {turned} {gain}{deeper}"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("alkaid", "da4ml"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="processor time of a search (default 10)")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--only", default="", help="matrices whose name contains this")
    parser.add_argument("--depths", action="store_true", help="also compare at every depth of the peers")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    parser.add_argument("--peers-from", type=Path, help="take the peers' graphs, which never change, from such a file")
    parser.add_argument("--json", type=Path, help="write the rows here, after each of them")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there already")
    args = parser.parse_args(arguments)
    rows = []
    if args.depths and (args.peers_from or args.no_peers):
        parser.error("--depths needs every point of the peers, so they have to run")
    theirs = _rows(args.peers_from) if args.peers_from else {}
    done = _rows(args.json) if args.resume and args.json and args.json.exists() else {}
    print(
        f"{'group':7} {'matrix':24} {'ours':>6} {'depth':>5} {'FA bits':>8} "
        f"{'peers':>6} {'depth':>5} {'peers^T':>7} {'gain':>8}"
    )
    for group, name, matrix in fixed_matrices():
        if (row := done.get((group, name))) is None:
            if group not in args.groups or args.only not in name:
                continue
            if (known := theirs.get((group, name))) is not None:
                peers = {"best": known.peer, "turned": known.peer_transposed}
            else:
                peers = {} if args.no_peers else asked(matrix)
            row = measure(group, name, matrix, args.seconds, args.depths, peers)
        rows.append(row)
        print(_line(row), flush=True)
        if args.json:
            _write(args.json, rows, args.seconds)
    for group in dict.fromkeys(row.group for row in rows):
        gains = [row.gain for row in rows if row.group == group and row.gain > 0]
        if gains:
            print(
                f"{group}: geometric mean {(math.exp(sum(map(math.log, gains)) / len(gains)) - 1) * 100:+.2f} % adders"
            )
    compared = [row for row in rows if row.peer]
    if compared:
        print(f"{len(compared)} matrices: more additions than the peers on {sum(row.behind for row in compared)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
