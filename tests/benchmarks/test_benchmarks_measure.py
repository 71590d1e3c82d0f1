"""Interleaved measuring with peers made of a few lines of Python: some well, some crashing, silent, slow or wrong."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.measure import Peer, Plan, choose_cpus, measure, relative_error
from benchmarks.results import fastest, speed_up

PLAN = Plan(rounds=3, slice_s=0.02, load_timeout_s=20, answer_timeout_s=5)

WELL = """
import json, sys, time
pause, scale = float(sys.argv[1]), float(sys.argv[2])
print("a library's chatter")
print(json.dumps({"ready": 1, "version": "1.0"}), flush=True)
for line in sys.stdin:
    word = line.split()
    if word[0] == "out":
        print(json.dumps({"out": [scale, 2 * scale]}), flush=True)
    else:
        time.sleep(pause)
        print(json.dumps({"t": [pause, pause, pause]}), flush=True)
"""


def python(name: str, code: str, *arguments: object, precision: str = "fp32") -> Peer:
    return Peer(name, (sys.executable, "-c", code, *map(str, arguments)), precision)


def well(name: str, pause: float = 0.001, scale: float = 1.0, precision: str = "fp32") -> Peer:
    return python(name, WELL, pause, scale, precision=precision)


def test_healthy_peers_are_measured_in_every_round() -> None:
    slow, fast = measure([well("slow", 0.004), well("fast", 0.001)], PLAN)
    assert slow.error is None and fast.error is None
    assert slow.version == "1.0"
    assert slow.rounds_ms == pytest.approx([4.0] * 3) and slow.iterations == 9
    assert slow.relative_error == 0 and fast.relative_error == 0
    assert speed_up(slow, fast) == pytest.approx(4)
    assert fastest([slow, fast]) is fast


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "crashed (SIGSEGV)"),
        ("raise RuntimeError('no such library')", "no such library"),
        ('print(\'{"error": "cannot load the model"}\')', "cannot load the model"),
        (WELL.replace("time.sleep(pause)", "sys.exit(7)"), "ended with exit code 7 (round 1)"),
        (WELL.replace("[pause, pause, pause]", "[]"), "without a single measurement"),
    ],
)
def test_a_failing_peer_costs_only_itself(code: str, message: str) -> None:
    first, bad, last = measure([well("first"), python("bad", code, 0.001, 1), well("last")], PLAN)
    assert bad.error is not None and message in bad.error
    assert not bad.usable and bad.median_ms is None
    for other in (first, last):
        assert other.error is None and len(other.rounds_ms) == PLAN.rounds


def test_a_missing_program_and_a_silent_one_are_named_as_such() -> None:
    plan = Plan(rounds=1, slice_s=0.01, load_timeout_s=0.3, answer_timeout_s=5)
    absent, silent = measure([Peer("absent", ("/nonexistent/program",)), python("silent", "input()")], plan)
    assert absent.error is not None and "cannot start /nonexistent/program" in absent.error
    assert silent.error == "no answer in time"


def test_a_wrong_answer_disqualifies_fp32_but_only_labels_int8() -> None:
    wrong = [well("right"), well("wrong", scale=1.001), well("coarse", scale=1.001, precision="int8")]
    right, off, coarse = measure(wrong, PLAN)
    assert right.usable
    assert off.error is not None and "wrong answer: relative error 0.001" in off.error
    assert coarse.usable and coarse.relative_error == pytest.approx(1e-3)
    nan = measure([well("right"), well("nan", scale=float("nan"))], PLAN)[1]
    assert nan.error is not None and "wrong answer" in nan.error


def test_answers_are_compared_within_their_group_only() -> None:
    one, other = well("one"), well("other", scale=3.0)
    results = measure([one, Peer(other.name, other.command, group="another model")], PLAN)
    assert [result.error for result in results] == [None, None]


def test_a_frozen_peer_does_not_run_while_another_is_measured(tmp_path: Path) -> None:
    """The busy peer counts all the time; the counter must stand still outside its slices."""
    busy = """
import json, sys, threading, time
counter = [0]
def count():
    while True:
        counter[0] += 1
        time.sleep(0.0005)
threading.Thread(target=count, daemon=True).start()
print(json.dumps({"ready": 1}), flush=True)
before = None
for line in sys.stdin:
    if line.startswith("out"):
        print(json.dumps({"out": [1]}), flush=True)
    else:
        begin = counter[0]
        time.sleep(0.05)
        print(json.dumps({"t": [max(1, begin - before) if before is not None else 1]}), flush=True)
    before = counter[0]
"""
    frozen, _ = measure([python("busy", busy), well("long", 0.5)], Plan(rounds=3, slice_s=0.02, cpus=choose_cpus(1)))
    assert frozen.error is None
    # 0.5 s of the other's turns would be up to a thousand counts.
    assert all(ms / 1e3 < 100 for ms in frozen.rounds_ms)


def test_peers_inherit_the_cpus_and_the_caller_keeps_its_own() -> None:
    code = """
import json, os, sys
print(json.dumps({"ready": 1, "version": " ".join(map(str, os.sched_getaffinity(0)))}), flush=True)
for line in sys.stdin:
    print(json.dumps({"out": [1], "t": [0.001]}), flush=True)
"""
    before = os.sched_getaffinity(0)
    cpus = choose_cpus(1)
    (result,) = measure([python("peer", code)], Plan(rounds=1, slice_s=0.01, cpus=cpus))
    assert result.version == str(cpus[0])
    assert os.sched_getaffinity(0) == before


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"open({str(note)!r}, 'w').write(str(__import__('os').getpid()))\n" + WELL
    measure([python("peer", code, 0.001, 1)], PLAN)
    pid = int(note.read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} still runs")


def test_relative_error() -> None:
    assert relative_error([3.0, 4.0], [3.0, 4.0]) == 0
    assert relative_error([3.0, 5.0], [3.0, 4.0]) == pytest.approx(0.2)
    assert relative_error([1.0], [0.0]) == 1
    assert relative_error([], [1.0]) == float("inf")


def test_a_real_runtime_on_a_small_layer_and_on_no_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from benchmarks.measure import runtime_peer
    from benchmarks.models import LayerShape, layer, write

    path = write(layer(LayerShape(8, 8, 3, 8)), tmp_path / "layer.onnx")
    known, unknown = (runtime_peer("onnxruntime", file, 1) for file in (path, tmp_path / "absent.onnx"))
    results = measure([known, unknown], Plan(rounds=2, slice_s=0.01, cpus=choose_cpus(1)))
    assert results[0].usable and results[0].iterations >= 2
    assert results[1].error is not None and "absent.onnx" in results[1].error


def test_waiting_counts_threads_that_work_and_no_idle_helpers() -> None:
    from benchmarks.worker import _waiting

    before = {"main": (5.0, 1.0), "helper": (0.0, 0.0)}
    after = {"main": (5.6, 1.3), "helper": (0.01, 0.99), "new": (0.5, 0.1)}
    assert _waiting(before, after, wall_s=1.0) == pytest.approx(0.3)
    assert _waiting(before, before, wall_s=1.0) == 0
