"""PyTorch layers, losses and schedules that train compressed networks, and their export to the compiler.

model = to_lhc(model)                                  # ordinary convolutions -> LHConv2d
schedule = ShapeSchedule(model, target=0.1)
for epoch in range(300):
    for x, y in batches:
        task = loss(model(x), y)
        (task + schedule.penalty()).backward()         # then the optimizer's step
    schedule.step(mean_task_loss)
export_onnx(model, x[:1], "model.onnx")                # masks folded in; or lhcc.compile(model, inputs=x[:1])
"""

from __future__ import annotations

from lhcc.errors import ToolMissing

try:
    import torch as _torch  # noqa: F401
except ImportError as missing:
    raise ToolMissing("lhcc.nn trains with PyTorch, which is not installed", "pip install 'lhcc[torch]'") from missing

from lhcc.nn.conv import HetConv2d, LHConv2d, MaskedConv2d
from lhcc.nn.convert import fold_masks, to_lhc
from lhcc.nn.density import density_loss, masked_layers, network_density
from lhcc.nn.export import export_onnx
from lhcc.nn.schedule import ShapeSchedule, freeze_shapes

__all__ = [
    "HetConv2d",
    "LHConv2d",
    "MaskedConv2d",
    "ShapeSchedule",
    "density_loss",
    "export_onnx",
    "fold_masks",
    "freeze_shapes",
    "masked_layers",
    "network_density",
    "to_lhc",
]
