"""A trained model in, one Relax module out: `import_model` takes what a user has and finds the frontend for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhcc.errors import ModelError
from lhcc.runtime.container import is_container

if TYPE_CHECKING:
    import tvm

# An example input or several: arrays or tensors, in the order of the model's inputs or by name.
Inputs = Any
Shapes = Mapping[str, Sequence[int]]


def import_model(model: Any, inputs: Inputs = None, input_shapes: Shapes | None = None) -> tvm.IRModule:
    """The model as an IRModule with one function `main`: pure dataflow, static shapes, weights as constants.

    Every binding carries the name of the user's layer that it was made for (a layer that becomes several operators
    gives its name to each of them).  Batch normalisation arrives as a multiply and an add with per-channel constants.
    `main` has the attributes `input_names` and `output_names`.  Half precision becomes float32, with a warning.
    """
    mod = _imported(model, inputs, input_shapes)
    from lhcc.frontend.checks import check_extents
    from lhcc.frontend.half import widened

    check_extents(mod)
    return widened(mod)


def _imported(model: Any, inputs: Inputs, input_shapes: Shapes | None) -> tvm.IRModule:
    if isinstance(model, (str, Path)):
        path = Path(model)
        if not path.exists():
            raise ModelError(f"there is no file '{path}'")
        if path.suffix == ".pt2":
            from lhcc.frontend.torch import from_pt2

            return from_pt2(path, inputs, input_shapes)
        if path.suffix == ".onnx":
            from lhcc.frontend.onnx import from_file

            return from_file(path, inputs, input_shapes)
        if is_container(path):
            raise ModelError(f"'{path}' is compiled already", "give the model that it was compiled from")
        raise ModelError(f"'{path}' is neither an .onnx nor a .pt2 file", "export the model to one of the two")
    # The class is told by the name of its module, so that neither torch nor onnx is imported for the other's sake.
    origins = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    if "onnx" in origins:
        from lhcc.frontend.onnx import from_proto

        return from_proto(model, inputs, input_shapes)
    if "torch" in origins:
        from lhcc.frontend.torch import from_torch

        return from_torch(model, inputs, input_shapes)
    raise ModelError(
        f"a model of type {type(model).__name__} cannot be imported",
        "give a torch.nn.Module, a torch.export.ExportedProgram, an onnx.ModelProto, or the path of a file",
    )
