"""What may be chosen about how a layer is computed: the record that the cost model ranks and the tuner measures."""

from __future__ import annotations

from dataclasses import dataclass

from lhcc.targets.choice import ChoiceRecord


@dataclass(frozen=True)
class Choice(ChoiceRecord):
    """One way to compute a convolution, a matrix product or a pooling."""

    dense: bool  # keep every weight tile
    vectors: int  # of outputs per weight tile
    depth: int  # input channels per weight tile
    height: int  # of the largest register tile of output pixels
    width: int
    tile_outer: bool  # pixels in the outer loop, output channels in the inner one; else the other way round
    merged: bool = False  # the taps of a kernel row are one step
    unroll: int = 4  # input channels per turn of the innermost loop
    chains: int = 16  # independent sums that a small register tile is given, to hide the latency of multiply-adds
    threads: int = 1  # that share the layer
    effort: int = 3  # LLVM's: 1 compiles in half the time, to code that is about as fast, some faster and some slower

    def __str__(self) -> str:
        form = "dense" if self.dense else "tiles"
        order = "tiles" if self.tile_outer else "outputs"
        text = f"{form} of {self.depth} inputs x {self.vectors} vectors, {self.height}x{self.width} px, {order} outer"
        extra = [f"unroll {self.unroll}"] * (self.unroll != 4) + [f"{self.chains} chains"] * (self.chains != 16)
        extra += ["taps of a row merged"] * self.merged + [f"O{self.effort}"] * (self.effort != 3)
        return ", ".join([text, *extra])
