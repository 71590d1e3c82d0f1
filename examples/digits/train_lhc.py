"""Trains LHC twins of the dense networks, free and rigid, and writes results.json.  Run after train.py (10 minutes)."""

from __future__ import annotations

import json
from typing import Any

import torch
from data import HELD_OUT_COUNT, HERE
from networks import EXAMPLE_INPUT, NETWORKS
from torch import nn
from train import EPOCHS, SEED, correct, train

from lhcc.nn import MaskedConv2d, ShapeSchedule, export_onnx, network_density, to_lhc

TARGETS = {"vgg": 0.08, "resnet": 0.12}  # density of all swapped convolutions together
GROUP_IN = GROUP_OUT = 16  # the networks have 32 to 96 channels
COARSE_EPOCHS, WARMUP = 60, 20


@torch.no_grad()
def multiply_adds(network: nn.Module) -> tuple[int, int]:
    """Of one image: all multiply-adds of convolutions and dense layers, and those with a weight that a mask keeps."""
    counted = [0, 0]

    def count(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        pixels = output[0, 0].numel()
        kept = int((layer.mask() != 0).sum()) if isinstance(layer, MaskedConv2d) else weight.numel()
        counted[0] += weight.numel() * pixels
        counted[1] += kept * pixels

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    network.eval()(EXAMPLE_INPUT)
    for hook in hooks:
        hook.remove()
    return counted[0], counted[1]


def twin(name: str, shapes: Any, target: float) -> dict[str, Any]:
    """Trains one LHC network from the dense one of the same name; one row of the table."""
    torch.manual_seed(SEED)
    network = NETWORKS[name]()
    network.load_state_dict(torch.load(HERE / f"{name}.pt", weights_only=True))
    correct_dense = correct(network)
    to_lhc(network, shapes=shapes, group_in=GROUP_IN, group_out=GROUP_OUT)
    schedule = ShapeSchedule(network, target=target, coarse_epochs=COARSE_EPOCHS, warmup=WARMUP, seed=SEED)
    train(network, COARSE_EPOCHS, schedule)
    train(network, EPOCHS)
    macs, kept = multiply_adds(network)
    file = f"{name}_lhc_{shapes}.onnx"
    export_onnx(network, EXAMPLE_INPUT, HERE / file)
    return {
        "file": file,
        "dense_file": f"{name}.onnx",
        "shapes": shapes,
        "group_in": GROUP_IN,
        "group_out": GROUP_OUT,
        "density_target": target,
        "density": round(network_density(network), 4),
        "macs": macs,
        "macs_kept": kept,
        "held_out": HELD_OUT_COUNT,
        "correct_dense": correct_dense,
        "correct": correct(network),
    }


def table(rows: list[dict[str, Any]]) -> str:
    titles = ["network", "density", "multiply-adds", "kept", "dense accuracy", "LHC accuracy"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        accuracies = [f"{row[key] / row['held_out']:.2%}" for key in ("correct_dense", "correct")]
        cells = [row["file"], f"{row['density']:.3f}", f"{row['macs']:,}", f"{row['macs_kept']:,}", *accuracies]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name in NETWORKS:
        for shapes in ("free", "rigid"):
            rows.append(twin(name, shapes, TARGETS[name]))
            print(json.dumps(rows[-1]), flush=True)
    (HERE / "results.json").write_text(json.dumps({"torch": torch.__version__, "networks": rows}, indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
