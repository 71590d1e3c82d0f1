"""In which stage a thread block copies which input blocks, and which weight tiles its warps multiply in it.

All warps meet at the end of every stage, so they should have equally many tiles in it, whatever the input blocks that
these read: a warp may run ahead of others by as many blocks as shared memory holds beyond those that all still need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Tile = tuple[int, int, int]  # input block, bytes into its patch, number of the weight tile


def arrivals_of(places: int) -> int:
    """Input blocks that are copied for a stage, at most: half of those that shared memory has places for."""
    return -(-places // 2)


@dataclass
class Stage:
    arrivals: list[tuple[int, int]]  # input block, and the place in shared memory that it is copied to
    tiles: list[list[tuple[int, Tile]]] = field(default_factory=list)  # by warp: place of the block, tile


def schedule(work: Sequence[Sequence[Tile]], places: int, arrivals: int, depth: int, ahead: int) -> list[Stage]:
    """`work`: the tiles of each warp, in the order of their blocks.  There are `places` for blocks in shared memory, at
    most `arrivals` come in a stage, and a warp multiplies up to `depth` tiles in it.  Copies for a stage begin when all
    warps have done with the one `ahead` before it: by then their place must have had its last use."""
    needed = sorted({block for tiles in work for block, _, _ in tiles})
    number = {block: at for at, block in enumerate(needed)}  # blocks arrive in this order, and take places in turn
    done, arrived, last_use = [0] * len(work), 0, [-1] * len(needed)
    stages: list[Stage] = []
    while any(at < len(tiles) for at, tiles in zip(done, work, strict=True)):
        waiting = [number[tiles[at][0]] for at, tiles in zip(done, work, strict=True) if at < len(tiles)]
        coming: list[tuple[int, int]] = []
        while len(coming) < arrivals and arrived < len(needed):
            leaving = arrived - places
            if leaving >= 0 and (leaving >= min(waiting) or last_use[leaving] > len(stages) - ahead):
                break
            coming.append((needed[arrived], arrived % places))
            arrived += 1
        stage = Stage(coming)
        for warp, tiles in enumerate(work):
            taken = [tile for tile in tiles[done[warp] : done[warp] + depth] if number[tile[0]] < arrived]
            done[warp] += len(taken)
            for block, _, _ in taken:
                last_use[number[block]] = len(stages)
            stage.tiles.append([(number[tile[0]] % places, tile) for tile in taken])
        stages.append(stage)
    return stages
