"""Elements by index, lowered by us: TVM's code reads wherever an index leads, outside the map or the process too.

take(x, i)[k] = x[min(max(j, 0), n - 1)], j = i[k], or n + i[k] where that is negative: it counts from the end
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import GenericConst


def _take(builder: Any, call: Any) -> Any:
    data, index = call.args
    if not isinstance(index.ty, relax.TensorType):
        index = relax.const(int(index.value), "int64")
    axis = call.attrs.axis
    if axis is None:
        data, axis = builder.normalize(relax.op.flatten(data)), 0
    axis = int(axis) % len(data.ty.shape)
    size = int(data.ty.shape[axis])
    known = isinstance(index, GenericConst)
    if known:
        places = index.value.numpy().astype(np.int64)
        index = relax.const(np.clip(np.where(places < 0, places + size, places), 0, size - 1), "int64")

    def compute(x: Any, i: Any) -> Any:
        end = axis + len(i.shape)

        def element(*at: Any) -> Any:
            place = i(*at[axis:end]).astype("int64")
            if not known:
                place = tirx.Select(place < 0, place + size, place)
                place = tirx.max(tirx.min(place, size - 1), 0)
            return x(*at[:axis], place, *at[end:])

        return te.compute([*x.shape[:axis], *i.shape, *x.shape[axis + 1 :]], element, name="take")

    return builder.call_te(compute, data, index, primfunc_name_hint="take")


RULES = {"relax.take": _take}
