"""Work done in a process of its own, request by request, so that a crash or an endless loop is one request's answer.

The process runs `serve(function)`: a line of text in, a JSON line out.  `Worker` is the side that asks.
The limit of a request is the processor time that it takes, so a machine that is busy or held up fails nothing.
"""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Answer = tuple[str, str]
WAITING_S = 1800.0  # for a process that does not even use its processor time


def serve(function: Callable[[str], Answer]) -> None:
    """Answers requests until there are no more; the process ends when one takes too much processor time."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    limit_s = float(sys.argv[1])
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        answer = function(line.strip())
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """One process running `python -m module`; started anew after a crash."""

    def __init__(self, module: str, limit_s: float = 60.0) -> None:
        self.module, self.limit_s = module, limit_s
        self.process: subprocess.Popen[str] | None = None

    def ask(self, request: str) -> Answer:
        """The answer, or ("crash" | "timeout", what happened)."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", self.module, str(self.limit_s)],
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
        if not select.select([self.process.stdout], [], [], WAITING_S)[0]:
            self.stop()
            return "timeout", f"no answer within {WAITING_S} s"
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            if code == -signal.SIGPROF:
                return "timeout", f"no answer within {self.limit_s} s of processor time"
            return "crash", f"exit code {code}"
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
    limit_s: float = 60.0,
    watch: Callable[[str, Answer], None] | None = None,
) -> dict[str, Answer]:
    """The answers to many requests, by several processes; `watch` sees each as it comes."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for request in requests:
        waiting.put(request)
    answers: dict[str, Answer] = {}

    def drain() -> None:
        worker = Worker(module, limit_s)
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
