"""Work done in a process of its own, request by request, so that a crash or an endless loop is one request's answer.

The process runs `serve(function)`: a line of text in, a JSON line out.  `Worker` is the side that asks.
"""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Answer = tuple[str, str]
START_S = 120.0  # more time for the first answer: the imports alone take seconds, on a busy machine many


def serve(function: Callable[[str], Answer]) -> None:
    """Answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    for line in sys.stdin:
        print(json.dumps(function(line.strip())), file=answers, flush=True)


class Worker:
    """One process running `python -m module`; started anew after a crash."""

    def __init__(self, module: str, timeout_s: float = 60.0) -> None:
        self.module, self.timeout_s = module, timeout_s
        self.process: subprocess.Popen[str] | None = None

    def ask(self, request: str) -> Answer:
        """The answer, or ("crash" | "timeout", what happened)."""
        timeout_s = self.timeout_s
        if self.process is None or self.process.poll() is not None:
            timeout_s += START_S
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"},
            )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], timeout_s)[0]:
            self.stop()
            return "timeout", f"no answer within {timeout_s} s"
        line = self.process.stdout.readline()
        if not line:
            return "crash", f"exit code {self.process.wait()}"
        kind, detail = json.loads(line)
        return kind, detail

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def ask_all(
    module: str,
    requests: Sequence[str],
    workers: int = 2,
    timeout_s: float = 60.0,
    watch: Callable[[str, Answer], None] | None = None,
) -> dict[str, Answer]:
    """The answers to many requests, by several processes; `watch` sees each as it comes."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for request in requests:
        waiting.put(request)
    answers: dict[str, Answer] = {}

    def drain() -> None:
        worker = Worker(module, timeout_s)
        try:
            while True:
                request = waiting.get_nowait()
                answers[request] = worker.ask(request)
                if watch:
                    watch(request, answers[request])
        except queue.Empty:
            return
        finally:
            worker.stop()

    threads = [threading.Thread(target=drain) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
