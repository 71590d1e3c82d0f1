"""Trains the two networks of this example and writes them as ONNX: python -m examples.dyadic.train (2 minutes)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.digits.data import split
from examples.dyadic.data import pictures
from lhcc.nn import export_onnx

HERE = Path(__file__).resolve().parent
BATCH, RATE = 64, 3e-3


def detector() -> nn.Sequential:
    """About 1,000 parameters, as face detectors once had: tanh and average pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(4, 14, 3), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(56, 5), nn.Tanh(), nn.Linear(5, 2),
    )  # fmt: skip


def digits() -> nn.Sequential:
    """About 180,000 parameters, nine tenths of them in one dense layer."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 156), nn.ReLU(), nn.Linear(156, 10),
    )  # fmt: skip


def train(network: nn.Sequential, images: Tensor, labels: Tensor, epochs: int, shift: bool) -> None:
    """One cycle of AdamW; `shift` moves every batch by up to a pixel."""
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = epochs * -(-len(images) // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(epochs):
        for picked in torch.randperm(len(images), generator=random).split(BATCH):
            x = images[picked]
            if shift:
                moved = torch.randint(0, 3, (2,), generator=random).tolist()
                x = F.pad(x, (1, 1, 1, 1))[:, :, moved[0] : moved[0] + 8, moved[1] : moved[1] + 8]
            loss = F.cross_entropy(network(x), labels[picked], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()


def main() -> None:
    torch.set_num_threads(1)  # the same sums in the same order, whatever the machine
    images, labels = split()[:2]
    found = pictures(4000, 1)
    for name, make, data, epochs in (("detector", detector, found, 30), ("digits", digits, (images, labels), 30)):
        torch.manual_seed(0)
        network = make()
        train(network, *map(torch.from_numpy, data), epochs, name == "digits")
        export_onnx(network.eval(), torch.from_numpy(data[0][:1]), HERE / f"{name}.onnx")
        print(f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters", flush=True)


if __name__ == "__main__":
    main()
