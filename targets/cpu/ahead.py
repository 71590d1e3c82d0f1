"""Which weights are asked for ahead of their use, and how: a choice, with a default that was measured.

Either the kernel asks for every line a distance ahead of where it is used, or the register tiles that share weights
ask, each for its part, for those of the next output block: they then come evenly while this block is computed, and
hardly a line is asked for twice.
"""

from __future__ import annotations

from typing import Any

from lhcc.targets.cpu.machine import LINE

STREAMED = 1 << 17  # bytes: weights beyond this come from the outer caches
PREFETCH = 2048  # weights ahead: what waits for main memory, VGG16 with half of its weights, gains 7 % over 256
MANY_USES = 8  # multiply-adds that a vector of weights takes part in
NEXT_BLOCK = -1  # instead of a distance: those of the next output block
NEAR = 1024  # the distance where there is but one register tile
LINE_WEIGHTS = LINE // 4


def ahead(weight_bytes: int, lanes: int, uses: int) -> int:
    """How many weights ahead are asked for, where that is thought to help: not where asking for a line takes the slots
    of loads that the multiply-adds need.  With narrower vectors that is everywhere (3 to 15 % slower on Zen 3), with 16
    lanes where a vector of weights has few `uses`: at 2x2 pixels, layers take 13 instead of 16 us without (Zen 4)."""
    return PREFETCH if lanes == 16 and uses >= MANY_USES and weight_bytes > STREAMED else 0


def asking(weight_bytes: int, lanes: int, uses: int) -> int:
    """The same for kernels that can ask for the next output block.  On Zen 3 that takes no time where the third-level
    cache holds the weights; where it does not, a fifth of 512 x 512 x 3 x 3 weights at 4x4 pixels run 1.5 times as
    fast."""
    return NEXT_BLOCK if lanes == 8 and weight_bytes > STREAMED else ahead(weight_bytes, lanes, uses)


def lines_asked(prefetch: int, tile: int, sharing: int) -> tuple[int, int]:
    """Lines asked for with each weight tile of `tile` weights that `sharing` register tiles use one after the other,
    and how many weights ahead they are; 0 ahead: in the next output block."""
    if prefetch != NEXT_BLOCK:
        return 0, prefetch
    return -(-tile // (LINE_WEIGHTS * sharing)), NEAR if sharing == 1 else 0


def share_starts(number: Any, begin: Any, end: Any, tile_lines: int, asked: int) -> Any:
    """The line from which the `number`-th register tile counts those that it asks for: `asked` for every weight tile
    up to the one that it is at, of the block's own, `begin` to `end`; `tile_lines`: of a weight tile."""
    return end * tile_lines + (number * (end - begin) - begin) * asked
