"""Trains the dense networks of this example and writes them as ONNX.  Run: python examples/digits/train.py (2 minutes)."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import HERE, held_out, split, write_held_out
from networks import EXAMPLE_INPUT, NETWORKS

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


def train(network: nn.Module, epochs: int = EPOCHS) -> None:
    """One-cycle AdamW on cross-entropy with smoothed labels."""
    images, labels = (torch.from_numpy(array) for array in split()[:2])
    random = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
    batches = -(-len(images) // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * batches)
    for _ in range(epochs):
        network.train()
        for picked in torch.randperm(len(images), generator=random).split(BATCH):
            scores = network(shifted(images[picked], random))
            loss = F.cross_entropy(scores, labels[picked], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    """Fraction of the held-out digits that the network names correctly."""
    images, labels = held_out()
    network.eval()
    return float(np.mean(network(torch.from_numpy(images)).argmax(1).numpy() == labels))


def main() -> None:
    from lhcc.nn import export_onnx

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
        torch.save(network.state_dict(), HERE / f"{name}.pt")  # where LHC training starts; not committed
        print(f"{name}: {accuracy(network):.2%} of the held-out digits")


if __name__ == "__main__":
    main()
