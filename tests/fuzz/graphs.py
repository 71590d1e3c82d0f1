"""Differential fuzzing: `python -m tests.fuzz.graphs --seed N --count 500` compares random CNNs with PyTorch; with
`--as-c` their C, built under sanitizers, with the reference.

A failure is printed with its seed and with the fewest steps that still fail; `--seed N --count 1` repeats it.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.worker import network_of
from tests.isolated import Answer, Worker, ask_all


def shrunk(seed: int, kind: str, module: str) -> str:
    """The request with as many steps dropped as possible while it fails in the same way."""
    worker = Worker(module)
    dropped: list[int] = []
    for i in reversed(range(len(network_of(str(seed)).steps))):
        attempt = f"{seed}:{','.join(map(str, [*dropped, i]))}"
        if worker.ask(attempt)[0] == kind:
            dropped.append(i)
    worker.stop()
    return f"{seed}:{','.join(map(str, dropped))}" if dropped else str(seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first network; the next one's is one higher")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--as-c", action="store_true", help="write them as C, and build that under sanitizers")
    options = parser.parse_args()
    module = "tests.fuzz.c_worker" if options.as_c else "tests.fuzz.worker"
    done = 0

    def watch(request: str, answer: Answer) -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            print(f"\r{done}/{options.count}", end="", file=sys.stderr)
        if answer[0] != "passed":
            print(f"seed {request}: {answer[0]} {answer[1]}\n  {network_of(request)}", flush=True)

    seeds = [str(options.seed + i) for i in range(options.count)]
    answers = ask_all(module, seeds, options.workers, watch=watch)
    failures = {seed: answer for seed, answer in answers.items() if answer[0] != "passed"}
    for seed, (kind, _) in failures.items():
        print(f"seed {seed} fails with no more than: {network_of(shrunk(int(seed), kind, module))}")
    judge = "the reference" if options.as_c else "PyTorch"
    print(f"{len(answers) - len(failures)} of {len(answers)} networks agree with {judge}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
