"""What may be chosen about how a layer is computed: the record that the cost model ranks and the tuner measures."""

from __future__ import annotations

from dataclasses import dataclass

from lhcc.targets.choice import ChoiceRecord

# values that the estimate cannot tell apart, best guess first
UNROLLS, CHAINS, TOGETHER, EFFORTS = (4, 8, 16), (16, 8), (1, 8), (1, 3)


@dataclass(frozen=True)
class Choice(ChoiceRecord):
    """One way to compute a convolution, a matrix product or a pooling."""

    dense: bool  # keep every weight tile
    vectors: int  # of outputs per weight tile
    depth: int  # input channels per weight tile
    height: int  # of the largest register tile of output pixels
    width: int
    together: int  # register tiles that go through all outputs before the next ones do; 0: all, outputs are outermost
    merged: bool = False  # the taps of a kernel row are one step
    unroll: int = 4  # input channels per turn of the innermost loop
    chains: int = 16  # independent sums that a small register tile is given, to hide the latency of multiply-adds
    prefetch: int = 0  # weights ahead of their use that are asked for; -1: those of the next outputs
    threads: int = 1  # that share the layer
    effort: int = 3  # LLVM's: 1 compiles in half the time, to code that is about as fast, some faster and some slower

    def __str__(self) -> str:
        form = "dense" if self.dense else "tiles"
        text = f"{form} of {self.depth} inputs x {self.vectors} vectors, {self.height}x{self.width} px, {self.order}"
        extra = [f"unroll {self.unroll}"] * (self.unroll != 4) + [f"{self.chains} chains"] * (self.chains != 16)
        extra += ["taps of a row merged"] * self.merged + [f"O{self.effort}"] * (self.effort != 3)
        extra += [f"weights asked for {self.prefetch} ahead"] * (self.prefetch > 0)
        extra += ["weights of the next outputs asked for"] * (self.prefetch < 0)
        return ", ".join([text, *extra])

    @property
    def order(self) -> str:
        """Of the loops, in words."""
        few = f", {self.together} together" if self.together > 1 else ""
        return f"tiles outer{few}" if self.together else "outputs outer"
