"""What may be chosen about how a convolution is computed: the record that the cost model ranks and a tuner measures."""

from __future__ import annotations

from dataclasses import dataclass

from lhcc.targets.choice import ChoiceRecord


@dataclass(frozen=True)
class Choice(ChoiceRecord):
    """One way to compute a convolution or a matrix product."""

    dense: bool  # keep every weight tile
    lanes: int  # outputs of a weight tile
    pixels: int  # of a warp, in 16s
    across: int  # warps side by side over pixels,
    columns: int  # over output blocks,
    splits: int  # and over the weight tiles of one output block
    images: int  # of the tile of outputs of a thread block
    height: int
    width: int
    places: int  # for input blocks in shared memory
    stages: int  # in flight
    depth: int  # weight tiles of a warp in a stage
    copiers: int  # warps that only copy

    def __str__(self) -> str:
        tile = f"{self.images}x{self.height}x{self.width} px"
        copied = f", copied by {self.copiers} warps" if self.copiers else ""
        warps = f"{self.across}x{self.columns}x{self.splits} warps of {16 * self.pixels} px x {self.lanes}"
        staged = f"{self.stages} stages of {self.depth}, {self.places} input blocks{copied}"
        return f"{'dense' if self.dense else 'tiles'}, {tile}, {warps}, {staged}"
