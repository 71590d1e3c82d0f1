"""Trains the dense networks of this example and writes them as ONNX: python examples/digits/train.py (2 minutes)."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from data import HERE, held_out, split, write_held_out
from networks import EXAMPLE_INPUT, NETWORKS
from torch import Tensor, nn
from torch.nn import functional as F

from lhcc.nn import ShapeSchedule, export_onnx

EPOCHS = 60
BATCH = 64
LEARNING_RATE = 2e-3
SEED = 0


def shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Every image moved by at most one pixel in each direction: the only augmentation that 8x8 pixels bear."""
    offsets = torch.randint(0, 3, (len(images), 2), generator=random)
    padded = F.pad(images, (1, 1, 1, 1))
    rows = offsets[:, 0, None] + torch.arange(8)
    columns = offsets[:, 1, None] + torch.arange(8)
    return padded[torch.arange(len(images))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def parameter_groups(network: nn.Module) -> list[dict[str, object]]:
    """Effects move faster than weights and must not decay: a decaying effect would only drift towards indecision."""
    effects = [p for name, p in network.named_parameters() if name.endswith("effects") and p.requires_grad]
    others = [p for name, p in network.named_parameters() if not name.endswith("effects")]
    return [
        {"params": others, "lr": LEARNING_RATE, "weight_decay": 1e-2},
        {"params": effects, "lr": 5 * LEARNING_RATE, "weight_decay": 0.0},
    ]


def train(network: nn.Module, epochs: int, schedule: ShapeSchedule | None = None) -> None:
    """One cycle of AdamW on cross-entropy with smoothed labels; a schedule adds its penalty and follows the epochs."""
    images, labels = (torch.from_numpy(array) for array in split()[:2])
    random = torch.Generator().manual_seed(SEED)
    groups = parameter_groups(network)
    optimizer = torch.optim.AdamW(groups)
    batches = -(-len(images) // BATCH)
    rates = [float(str(group["lr"])) for group in groups]
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=epochs * batches)
    for _ in range(epochs):
        network.train()
        task_losses = []
        for picked in torch.randperm(len(images), generator=random).split(BATCH):
            scores = network(shifted(images[picked], random))
            loss = F.cross_entropy(scores, labels[picked], label_smoothing=0.1)
            task_losses.append(loss.item())
            if schedule is not None:
                loss = loss + schedule.penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        if schedule is not None:
            schedule.step(float(np.mean(task_losses)))


@torch.no_grad()
def correct(network: nn.Module) -> int:
    """How many of the held-out digits the network names correctly."""
    images, labels = held_out()
    network.eval()
    return int(np.sum(network(torch.from_numpy(images)).argmax(1).numpy() == labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order, whatever the machine
    write_held_out()
    for name, kind in NETWORKS.items():
        torch.manual_seed(SEED)
        network = kind()
        train(network, arguments.epochs)
        export_onnx(network, EXAMPLE_INPUT, HERE / f"{name}.onnx")
        torch.save(network.state_dict(), HERE / f"{name}.pt")  # LHC training starts here; not committed
        print(f"{name}: {correct(network)} of {len(held_out()[1])} held-out digits")


if __name__ == "__main__":
    main()
