"""Makes every part of a split a slice of its own, for targets whose kernels have one result.

    parts = relax.split(x, 2); y = parts[1]     ->  y = relax.strided_slice(x, ...)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from lhcc.ir.graph import Rewriter, op_name, plain, shape_of
from lhcc.ir.log import Log


@dataclass(frozen=True)
class SplitAsSlices:
    name = "split_as_slices"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        rewriter = Rewriter(mod, log, self.name)

        def visit(name: str, value: Any) -> Any:
            if not isinstance(value, relax.TupleGetItem):
                return None
            split = rewriter.value(value.tuple_value)
            if op_name(split) != "relax.split":
                return None
            source = split.args[0]
            axis = plain(split.attrs.axis) % len(shape_of(source))
            extents = [int(field.shape.values[axis]) for field in split.ty.fields]
            begin = sum(extents[: value.index])
            return relax.op.strided_slice(source, [axis], [begin], [begin + extents[value.index]])

        return rewriter.run(visit)
