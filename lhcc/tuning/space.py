"""What a target offers to the tuner: its layers by workload, and a kernel for every choice about them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import TargetError
from lhcc.targets import base
from lhcc.tuning.database import Setting
from lhcc.tuning.worker import Problem

Choice = Mapping[str, Any]  # a target's own record of a choice, as plain values


def own_code(choice: Choice) -> Hashable:
    """Code that no other choice shares."""
    return tuple(sorted(choice.items()))


@dataclass(frozen=True)
class Kernel:
    """Code to be generated and compiled; equal `identity`, equal code."""

    identity: str
    function: Callable[[], Any]  # makes the PrimFunc: (input, constants..., residual, output)
    constants: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Task:
    """One workload: all layers that share it are tuned at once."""

    workload: str
    layers: tuple[str, ...]
    choices: Sequence[Choice]  # the first is what the compiler takes untuned
    estimates: Sequence[float]
    problem: Callable[[], Problem]
    kernel: Callable[[Choice], Kernel]
    code: Callable[[Choice], Hashable] = own_code  # equal for choices that differ in data only: one kernel serves all


class Space(Protocol):
    def setting(self, processor: str) -> Setting:
        """Where measurements taken on `processor` count."""

    def compiles_for(self, processor: str) -> bool:
        """Whether the compiler, running here, takes what was measured on `processor`."""

    def tasks(self, mod: Any) -> list[Task]:
        """The workloads of an imported model."""

    def generic_tasks(self, mod: Any) -> list[Task]:
        """The same of the operators that have no kernel generator."""

    def tvm_target(self) -> Any:
        """What the kernels are compiled for."""


def space_of(target: str, options: base.Options) -> Space:
    """The search space of a target: its module `tuning`, beside the one that defines it."""
    parsed = base.parse(target)
    module = base.MODULES[parsed.name].rpartition(".")[0] + ".tuning"
    try:
        created: Space = import_module(module).create(parsed, options)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise TargetError(f"target '{parsed.name}' has nothing to tune") from None
    return created


def random_map(shape: Sequence[int], seed: int) -> NDArray[np.float32]:
    """A feature map for measuring; lanes without a channel hold numbers, too: no result may depend on them."""
    return np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)
