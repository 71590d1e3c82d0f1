"""The stages of a thread block: every tile once and in order, and no input block overwritten before its last use."""

from __future__ import annotations

import numpy as np
import pytest

from lhcc.targets.cuda.schedule import Tile, schedule


def drawn(seed: int) -> tuple[list[list[Tile]], int, int, int, int]:
    rng = np.random.default_rng(seed)
    warps, blocks = int(rng.integers(1, 9)), int(rng.integers(1, 20))
    work = []
    for _ in range(warps):
        counts = rng.poisson(rng.choice([0.3, 2.0, 6.0]), blocks) * (rng.random(blocks) < rng.choice([0.2, 1.0]))
        work.append([(block, k, 100 * block + k) for block, count in enumerate(counts) for k in range(count)])
    places = int(rng.integers(1, 9))
    return work, places, -(-places // 2), int(rng.integers(1, 9)), int(rng.integers(2, 5))


@pytest.mark.parametrize("seed", range(60))
def test_every_tile_finds_its_block(seed: int) -> None:
    work, places, arrivals, depth, ahead = drawn(seed)
    stages = schedule(work, places, arrivals, depth, ahead)
    for warp, tiles in enumerate(work):
        assert [tile for stage in stages for _, tile in stage.tiles[warp]] == tiles
    holds: dict[int, int] = {}  # place: block
    last_use: dict[int, int] = {}
    for number, stage in enumerate(stages):
        assert len(stage.arrivals) <= arrivals
        for block, place in stage.arrivals:
            assert place < places and last_use.get(place, -ahead) <= number - ahead
            holds[place] = block
        for taken in stage.tiles:
            assert len(taken) <= depth
            for place, (block, _, _) in taken:
                assert holds[place] == block
                last_use[place] = number


def test_warps_that_have_equal_work_never_wait_for_each_other() -> None:
    """One warp reads early blocks, the other late ones; four tiles each, two a stage."""
    early = [(block, 0, block) for block in (0, 0, 1, 1)]
    late = [(block, 0, block) for block in (2, 2, 3, 3)]
    assert [[len(tiles) for tiles in stage.tiles] for stage in schedule([early, late], 4, 4, 2, 2)] == [[2, 2], [2, 2]]


def test_a_group_without_tiles_has_no_stages() -> None:
    assert schedule([[], []], 4, 2, 4, 2) == []
