"""Differential fuzzing: `python -m tests.fuzz.graphs torch --seed N --count 500` compares random CNNs with PyTorch,
`onnx` random ONNX models with ONNX Runtime, `c` the C of random CNNs, built under sanitizers, with the reference.

A failure is printed with its seed and with the fewest steps that still fail; `--seed N --count 1` repeats it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.isolated import Answer, Worker, ask_all

FINE = ("passed", "unsupported", "unjudged")


@dataclass(frozen=True)
class Kind:
    """Who answers a request, how many steps a seed has, what a request is in words."""

    module: str
    steps: Callable[[int], int]
    spelled: Callable[[str], str]


def kind(name: str) -> Kind:
    if name == "onnx":
        from tests.fuzz.onnx_graphs import grow, spelled, steps_of

        return Kind("tests.fuzz.onnx_worker", steps_of, lambda request: spelled(grow(request)))
    from tests.fuzz.worker import network_of

    module = {"torch": "tests.fuzz.worker", "c": "tests.fuzz.c_worker"}[name]
    return Kind(module, lambda seed: len(network_of(str(seed)).steps), lambda request: str(network_of(request)))


def shrunk(seed: int, answer: str, of: Kind) -> str:
    """The request with as many steps dropped as possible while it fails in the same way."""
    worker = Worker(of.module)
    dropped: list[int] = []
    for i in reversed(range(of.steps(seed))):
        attempt = f"{seed}:{','.join(map(str, [*dropped, i]))}"
        if worker.ask(attempt)[0] == answer:
            dropped.append(i)
    worker.stop()
    return f"{seed}:{','.join(map(str, dropped))}" if dropped else str(seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["torch", "onnx", "c"])
    parser.add_argument("--seed", type=int, default=0, help="seed of the first network; the next one's is one higher")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    of = kind(options.kind)
    done = 0

    def watch(request: str, answer: Answer) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            print(f"\r{done}/{options.count}", end="", file=sys.stderr)
        if answer[0] not in FINE:
            print(f"seed {request}: {answer[0]} {answer[1]}\n  {of.spelled(request)}", flush=True)

    seeds = [str(options.seed + i) for i in range(options.count)]
    answers = ask_all(of.module, seeds, options.workers, watch=watch)
    failures = {seed: answer for seed, answer in answers.items() if answer[0] not in FINE}
    for seed, (answer, _) in failures.items():
        print(f"seed {seed} fails with no more than: {of.spelled(shrunk(int(seed), answer, of))}")
    print(", ".join(f"{count} {answer}" for answer, count in Counter(kind for kind, _ in answers.values()).items()))
    for refusal, count in Counter(detail for kind, detail in answers.values() if kind == "unsupported").most_common(20):
        print(f"unsupported, {count} times: {refusal}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
