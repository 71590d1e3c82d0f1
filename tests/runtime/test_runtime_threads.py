"""The pool's workers work whatever the environment says, and are kept apart from the caller."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from lhcc.runtime import threads

linux = pytest.mark.skipif(not os.path.exists(threads.TASKS), reason="the system does not list a process's threads")

# runs a kernel shared by two threads for a while, and prints how long the pool's first worker was at it
SHARED = """
import time
from tvm.target import Target
from tvm.target.codegen import llvm_get_system_cpu
from lhcc.runtime import threads
from lhcc.runtime.codegen import compile_kernels
from lhcc.runtime.loader import load_kernels
from lhcc.runtime.peak import _tensor
from lhcc.runtime.peak_kernels import fma_kernel
target = Target({"kind": "llvm", "mcpu": llvm_get_system_cpu()})
kernel = load_kernels(compile_kernels({"fma": fma_kernel(4, 8, 2, 100_000)}, target))["fma"]
arguments = _tensor((4,)), _tensor((4,)), _tensor((2, 8, 4))
start, ticks = time.monotonic(), 0
while not ticks and time.monotonic() - start < 20:  # much sooner, but on a machine that others keep busy
    threads.use(2)
    kernel(*arguments)
    with open(f"/proc/self/task/{threads._pool.workers[0]}/stat") as file:
        ticks = sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
print(ticks)
"""


@linux
@pytest.mark.parametrize("given", ["", "1"])
def test_work_is_shared_whatever_the_environment_says(given: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    if given:
        environment["OMP_NUM_THREADS"] = given
    done = subprocess.run([sys.executable, "-c", SHARED], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0  # hundredths of a second


@linux
def test_the_place_of_a_thread_is_known() -> None:
    state, core = threads._place(threading.get_native_id())
    assert (state, core in os.sched_getaffinity(0)) == ("R", True)


@linux
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has no room to spread")
def test_a_worker_in_the_way_is_moved_and_not_pinned() -> None:
    stop, started = threading.Event(), threading.Event()
    number: list[int] = []

    def work() -> None:
        number.append(threading.get_native_id())
        started.set()
        while not stop.is_set():
            os.sched_yield()

    worker = threading.Thread(target=work)
    worker.start()
    started.wait()
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        os.sched_setaffinity(number[0], {min(allowed)})
        time.sleep(0.05)
        os.sched_setaffinity(number[0], allowed)
        for _ in range(100):  # which of the two runs at a moment is the system's choice
            threads._spread((number[0],))
            if threads._place(number[0])[1] != min(allowed):
                break
        assert threads._place(number[0])[1] != min(allowed)
        assert os.sched_getaffinity(number[0]) == allowed
    finally:
        os.sched_setaffinity(0, allowed)
        stop.set()
        worker.join()


@linux
def test_threads_that_have_ended_do_no_harm() -> None:
    threads._spread((2**22 + 1,))
