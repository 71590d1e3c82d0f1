"""A search space of doubling kernels that wait, err, crash or hang: real code for the tuner to survive."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lhcc.runtime.library import import_tvm
from lhcc.tuning.database import Database, Setting
from lhcc.tuning.measure import LocalLink, Measurer
from lhcc.tuning.space import Kernel, Task
from lhcc.tuning.worker import Problem

SIZE = 64
Choice = Mapping[str, Any]


def wait(microseconds: int, **more: Any) -> dict[str, Any]:
    """A correct candidate that takes so long."""
    return {"does": "wait", "us": microseconds, "factor": 2.0, **more}


WRONG = {"does": "wait", "us": 1, "factor": 3.0}
CRASH = {"does": "abort", "us": 0, "factor": 2.0}
HANG = {"does": "pause", "us": 0, "factor": 2.0}
BASE = wait(3000)


def doubling(choice: Choice) -> Kernel:
    import_tvm()
    from tvm import tirx as T

    from lhcc.ir.tir import function, get, integer, loop, put, tensor, var

    source, target, index = tensor("source", [SIZE]), tensor("target", [SIZE]), var("index")
    calls = {
        "wait": T.call_extern("int32", "usleep", integer(choice["us"])),
        "abort": T.call_extern("void", "abort"),
        "pause": T.call_extern("int32", "pause"),
    }
    value = get(source, index) * T.FloatImm("float32", choice["factor"])
    body = [T.Evaluate(calls[choice["does"]]), loop(index, SIZE, [put(target, value, index)])]
    return Kernel(str(sorted(choice.items())), lambda: function([source, target], body), ())


def problem() -> Problem:
    x = np.arange(SIZE, dtype=np.float32)
    return Problem((x,), 2 * x, 1, 0)


def task(choices: Sequence[Choice], workload: str = "doubling") -> Task:
    return Task(workload, (workload,), choices, [1.0 + n / 100 for n in range(len(choices))], problem, doubling)


class Doubling:
    """The space of the tasks above, for this machine."""

    def setting(self, processor: str) -> Setting:
        return Setting("test", processor, 1)

    def compiles_for(self, processor: str) -> bool:
        return True

    def tasks(self, mod: Any) -> list[Task]:
        raise NotImplementedError

    generic_tasks = tasks

    def tvm_target(self) -> Any:
        from tvm.target import Target
        from tvm.target.codegen import llvm_get_system_cpu

        return Target({"kind": "llvm", "mcpu": llvm_get_system_cpu()})


def tune(tasks: Sequence[Task], database: str, budget_s: float = 60.0, link: Any = None) -> Any:
    """A tuner that has run over these tasks, and why it stopped."""
    from lhcc.tuning.tuner import Tuner

    import_tvm()
    space = Doubling()
    link = link or LocalLink()
    try:
        measurer = Measurer(link)
        tuner = Tuner(space, measurer, Database(database), space.setting(measurer.processor()), budget_s)
        return tuner, tuner.run(tasks)
    finally:
        link.close()


def many(count: int) -> Task:
    return task([BASE, *(wait(2000, number=n) for n in range(count))])


if __name__ == "__main__":  # for tests that kill the tuner: DATABASE COUNT
    tune([many(int(sys.argv[2]))], sys.argv[1], 600)
