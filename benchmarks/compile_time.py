"""How long one waits: importing lhcc, compiling without tuning, loading an artifact and its first run.

Each sample is a fresh process, so nothing is warm but the disk.  `python -m benchmarks.compile_time [--json FILE]`
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.models import network_file
from benchmarks.results import ROOT, Case, Result
from benchmarks.session import Session, parser

IMPORT_S, COMPILE_S, LOAD_S = 0.15, {"vgg16-cifar": 15.0, "resnet50": 60.0}, 0.5
DENSITY = 0.1

# Each prints the seconds that it took as its last line.
IMPORT = "import time; begin = time.perf_counter(); import lhcc; print(time.perf_counter() - begin)"
COMPILE = """
import sys, time
begin = time.perf_counter()
import lhcc
executable = lhcc.compile(sys.argv[1], target="cpu", threads=int(sys.argv[2]))
print(time.perf_counter() - begin)
"""
SAVE = """
import sys, lhcc
lhcc.compile(sys.argv[1], target="cpu").save(sys.argv[2])
print(0)
"""
LOAD = """
import sys, time
import numpy, tvm, lhcc
x = numpy.zeros((1, 3, 32, 32), numpy.float32)
begin = time.perf_counter()
lhcc.load(sys.argv[1])(x)
print(time.perf_counter() - begin)
"""


class ScriptFailed(Exception):
    """The last line that the script said."""


def seconds(script: str, *arguments: str, timeout_s: float = 600) -> tuple[float, float]:
    """What one run of a script in a fresh process took, by its own clock; and the CPU time of the whole process."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    command = [sys.executable, "-c", script, *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
    except subprocess.TimeoutExpired:
        raise ScriptFailed(f"not done after {timeout_s:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with exit code {done.returncode}"]
        raise ScriptFailed(lines[-1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(done.stdout.split()[-1]), cpu


def sample(session: Session, title: str, repeats: int, threads: int, script: str, arguments: Sequence[str]) -> Result:
    """Repeats a script and keeps its times as one case."""
    result, cpu_s = Result("lhcc", role="ours"), []
    session.progress.start(title)
    try:
        for repeat in range(repeats):
            session.progress.step(f"{repeat + 1} of {repeats}")
            wall, cpu = seconds(script, *arguments)
            result.rounds_ms.append(1e3 * wall)
            cpu_s.append(cpu)
        result.summarise(result.rounds_ms)
    except ScriptFailed as failure:
        result.error = str(failure)
    session.progress.clear()
    session.keep(Case(title, threads, [result], {"process_cpu_s": cpu_s}))
    if cpu_s:
        print(f"  CPU time of the process: {median(cpu_s):.2f} s")
    return result


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", default=",".join(COMPILE_S), help="networks to compile")
    args = options.parse_args()
    session = Session("compile_time", args)
    threads = max(session.thread_counts)

    def ask(result: Result, name: str, asked: float) -> None:
        value = result.median_ms / 1e3 if result.usable and result.median_ms is not None else None
        session.ask(name, value, asked, unit="s", at_least=False)

    seconds(IMPORT)  # writes the byte code
    ask(sample(session, "import lhcc", 3 if session.quick else 9, 1, IMPORT, []), "import lhcc", IMPORT_S)
    for name in args.rows.split(","):
        title, model = f"compile {name}, density {DENSITY:g}", network_file(name, DENSITY)
        repeats = 1 if session.quick else 3
        result = sample(session, title, repeats, threads, COMPILE, [str(model), str(threads)])
        ask(result, title, COMPILE_S.get(name, float("inf")))
    with tempfile.TemporaryDirectory() as folder:
        artifact = str(Path(folder) / "model.lhcc")
        title = "load an artifact of vgg16-cifar and run it once"
        try:
            seconds(SAVE, str(network_file("vgg16-cifar", DENSITY)), artifact)
        except ScriptFailed as failure:
            result = session.keep(Case(title, 1, [Result("lhcc", role="ours", error=str(failure))])).results[0]
        else:
            result = sample(session, title, 3 if session.quick else 9, 1, LOAD, [artifact])
        ask(result, title, LOAD_S)
    return session.finish()


if __name__ == "__main__":
    raise SystemExit(main())
