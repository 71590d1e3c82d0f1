"""ONNX's backend suite through lhcc, in worker processes: a crash or an endless loop is one test's outcome.

`python -m tests.conformance.suite [--filter TEXT] [--write]` prints the counts and everything that did not pass or end
as a clear "unsupported"; --write updates counts.json.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import select
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

COUNTS = Path(__file__).with_name("counts.json")
TIMEOUT_S = 60.0
Outcomes = dict[str, tuple[str, str]]


class Worker:
    """One process that runs tests; started anew after a crash."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def run(self, name: str) -> tuple[str, str]:
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.conformance.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).resolve().parents[2],
                env={**os.environ, "OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"},
            )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], TIMEOUT_S)[0]:
            self.process.kill()
            self.process.wait()
            return "timeout", f"no answer within {TIMEOUT_S} s"
        line = self.process.stdout.readline()
        if not line:
            return "crash", f"exit code {self.process.wait()}"
        kind, detail = json.loads(line)
        return kind, detail

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def run(names: list[str], workers: int = 2) -> Outcomes:
    """The outcome of every test named."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    outcomes: Outcomes = {}

    def drain() -> None:
        worker = Worker()
        try:
            while True:
                name = waiting.get_nowait()
                outcomes[name] = worker.run(name)
        except queue.Empty:
            return
        finally:
            worker.stop()

    threads = [threading.Thread(target=drain) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def counts(outcomes: Outcomes) -> dict[str, dict[str, int]]:
    """Per kind of test, how many ended in which way."""
    table: dict[str, Counter[str]] = {}
    for name, (kind, _) in outcomes.items():
        table.setdefault(name.split("/")[0], Counter())[kind] += 1
    return {group: dict(sorted(table[group].items())) for group in sorted(table)}


def main() -> None:
    from tests.conformance.worker import cases

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="", help="only tests whose name contains this")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="print the reasons of the unsupported ones as well")
    parser.add_argument("--write", action="store_true", help="write counts.json")
    options = parser.parse_args()
    outcomes = run([name for name in cases() if options.filter in name], options.workers)
    for name, (kind, detail) in sorted(outcomes.items()):
        if kind not in ("passed", "unsupported") or (options.all and kind == "unsupported"):
            print(f"{kind} {name}: {detail}\n")
    print(json.dumps(counts(outcomes), indent=1))
    if options.write:
        COUNTS.write_text(json.dumps(counts(outcomes), indent=1) + "\n")


if __name__ == "__main__":
    main()
