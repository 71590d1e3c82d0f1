"""What the packer makes, tables and weights in fragment order, computed as plain loops by TVM for this processor: the
numbers are checked apart from the mapping to threads.  Choices are drawn at random, not only the estimate's favourites.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lhcc.frontend import import_model  # noqa: E402
from lhcc.ir.layer import ConvLayer, Packed  # noqa: E402
from lhcc.ir.log import Log  # noqa: E402
from lhcc.ir.verify import NumbersChanged, Verifier  # noqa: E402
from lhcc.passes.lower_kernels import LowerKernels  # noqa: E402
from lhcc.passes.pack_tiles import PackTiles  # noqa: E402
from lhcc.pipeline import graph_passes, lower, passes, run  # noqa: E402
from lhcc.targets import base  # noqa: E402
from lhcc.targets.cuda import fragments  # noqa: E402
from lhcc.targets.cuda.pack import Problem, pack  # noqa: E402
from tests.targets_cpu.test_cpu_layers import make_case  # noqa: E402
from tests.zoo import ZOO  # noqa: E402

TARGETS = ("cuda:arch=sm_90,precision=fp16", "cuda", "cuda:arch=sm_75", "cuda:arch=sm_86,precision=tf32")
# batch, inputs, outputs, kernel, stride, side, groups, density
SHAPES = [
    (256, 64, 40, 1, 1, 3, 1, 0.5),
    (64, 33, 65, 3, 1, 5, 1, 0.1),
    (16, 96, 32, 3, 2, 9, 1, 0.25),
    (2, 3, 64, 7, 2, 31, 1, 1.0),
    (1, 160, 48, 3, 1, 14, 1, 0.05),
    (128, 40, 40, 3, 2, 7, 40, 1.0),
    (1, 257, 31, 1, 2, 8, 1, 0.75),
]


def verified(module: Any, inputs: Any, target: str, seed: int | None) -> None:
    """Compiles up to the packed layers, each stage run against the stage before; a seed draws the choices."""
    parsed: Any = base.parse(target)
    options = base.Options()
    order = passes(parsed, options)
    lowering = next(item for item in order if isinstance(item, LowerKernels))
    rng = np.random.default_rng(seed)

    def drawn(layer: ConvLayer) -> Packed:
        if layer.depthwise and not layer.transposed:
            return pack(layer, parsed.machine, options)
        problem = Problem(layer, parsed.machine, options)
        choices = [choice for choice in problem.choices() if problem.fits(choice)]
        if not choices:
            pytest.skip("no choice fits into shared memory: compiling says so, and names the layer")
        return pack(layer, parsed.machine, options, choices[int(rng.integers(len(choices)))])

    mod = run(import_model(module, inputs, None), graph_passes(), Log())
    verifier = Verifier(mod, lowering.plain, lowering.tolerance)
    checked = []
    for item in parsed.layout_passes(options):
        step = PackTiles(drawn) if isinstance(item, PackTiles) and seed is not None else item
        mod = step.run(mod, Log())
        assert verifier.can_check(mod)
        verifier.check(mod, item.name)
        checked.append(item.name)
    assert "pack_tiles" in checked


def layer_of(batch: int, inputs: int, outputs: int, kernel: int, stride: int, side: int, groups: int, density: float
             ) -> tuple[Any, Any]:  # fmt: skip
    torch.manual_seed(batch)
    rng = np.random.default_rng(inputs)
    layer = torch.nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
    kept = rng.random((-(-outputs // 16), -(-inputs // (32 * groups)), kernel, kernel)) < density
    mask = np.repeat(np.repeat(kept, 16, 0), 32, 1)[:outputs, : inputs // groups]
    layer.weight.data *= torch.from_numpy(mask).float()
    return torch.nn.Sequential(layer, torch.nn.ReLU()).eval(), (torch.randn(batch, inputs, side, side),)


@pytest.mark.parametrize("seed", range(8))
def test_random_layers_with_random_choices(seed: int) -> None:
    case = make_case(4000 + seed)
    verified(case.module, case.inputs, TARGETS[seed % len(TARGETS)], seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(120))
def test_more_random_layers_with_random_choices(seed: int) -> None:
    case = make_case(5000 + seed)
    verified(case.module, case.inputs, TARGETS[seed % len(TARGETS)], seed)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("target", TARGETS[:3])
def test_batches_kernels_strides_and_densities(shape: Any, target: str) -> None:
    for seed in (None, 1, 2):
        verified(*layer_of(*shape), target, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet5", "inception", "resnet18-64", "mobilenet_v2-64", "unet", "yolo_head"])
def test_networks(name: str) -> None:
    verified(ZOO[name].model(), (torch.randn(1, *ZOO[name].shape),), TARGETS[0], None)


def test_zeros_that_no_kernel_uses_are_told_and_run_dense() -> None:
    """Single zeros have an encoding without kernels here; collinear filters and morphology have none on any target."""
    rng, layer = np.random.default_rng(0), torch.nn.Conv2d(64, 64, 3, padding=1)
    collinear = torch.nn.Conv2d(64, 64, 3, padding=1)
    layer.weight.data *= torch.from_numpy(rng.random((64, 64, 3, 3)) < 0.5)
    collinear.weight.data = torch.outer(torch.arange(1.0, 65), torch.randn(576)).reshape(64, 64, 3, 3)
    model = torch.nn.Sequential(layer, collinear).eval()
    mod = import_model(model, (torch.randn(1, 64, 5, 5),), None)
    lowered = lower(mod, base.parse("cuda"), base.Options())
    assert {item.encoding for item in lowered.layers if item.op == "conv2d"} == {"dense"}
    told = [reason for reason in lowered.reasons if "no kernels for patterns and elements" in reason.text]
    assert len(told) == 1 and told[0].pass_name == "pack_tiles"


def test_weights_in_a_wrong_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = fragments.pack
    monkeypatch.setattr(fragments, "pack", lambda *given: usual(*given)[:, ::-1])
    with pytest.raises(NumbersChanged, match="pack_tiles changed output 0"):
        verified(*layer_of(*SHAPES[3]), TARGETS[0], None)
