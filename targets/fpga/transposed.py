"""The transposed form of a convolution: a pixel's products, and the sums that wait for the products of later pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from lhcc.integer.core import width
from lhcc.targets.fpga.netlist import Netlist
from lhcc.targets.fpga.stages import Geometry, SlidingStage
from lhcc.targets.fpga.timing import Schedule


@dataclass(frozen=True)
class Link:
    """A tap along the transposed axes: products join the sums that pass it, which then wait for the next link."""

    row: int
    column: int
    products: dict[int, int]
    """output channel -> which output of the product netlist it adds here"""
    sums: dict[int, tuple[int, int]]
    """output channel -> interval of its sum behind this link, for those that have begun"""
    delay: int
    """pixels until the next link; 0 behind the last one"""

    @property
    def word(self) -> int:
        """bits of all sums side by side"""
        return sum(width(*ends) for ends in self.sums.values())


@dataclass(frozen=True)
class Register:
    """Of a product on its way to the sums.  What lies outside the image is left out here, by a reset that all bits
    share, and other registers too: left out at the addition, it would take up to two LUTs for every bit."""

    node: int
    row: int | None
    """of the tap, where some pixels are outside the image at it because of their row"""
    column: int | None
    rest: int
    """what stands here instead of the products that are left out"""

    @property
    def resets(self) -> bool:
        return self.row is not None or self.column is not None


@dataclass(frozen=True)
class TransposedStage(SlidingStage):
    """Not pixels wait for the window along some axes, but partial sums: a pixel's products are made when it enters.

    `products` maps the pixels that are at hand to their products with every tap of the transposed axes; `logic` maps
    finished sums to the output."""

    products: Netlist = field(kw_only=True)
    product_schedule: Schedule = field(kw_only=True)
    links: tuple[Link, ...] = field(kw_only=True)
    start: tuple[int, ...] = field(kw_only=True)
    """per output channel, the constant that its sum starts from"""
    rows: bool = field(kw_only=True)
    columns: bool = field(kw_only=True)

    @property
    def form(self) -> str:
        return "transposed" if self.rows and self.columns else f"hybrid, {'rows' if self.rows else 'columns'}"

    @property
    def steps(self) -> int:
        return self.product_schedule.steps + 1 + self.schedule.steps

    @property
    def joins(self) -> list[tuple[int, int]]:
        """interval of every sum to which a product is added"""
        seen: set[int] = set()
        found = []
        for link in self.links:
            found += [link.sums[o] for o in link.products if o in seen]
            seen |= set(link.products)
        return found

    def left_out(self, link: Link) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The rows and the columns of a pixel whose product at this tap belongs to no output; none without padding,
        for then no complete window has a tap outside."""
        g, rows, columns = self.geometry, tuple[int, ...](), tuple[int, ...]()
        if g.padded and self.rows:
            rows = tuple(y for y in range(g.height) if not 0 <= y - link.row + g.top < g.height)
        if g.padded and self.columns:
            columns = tuple(x for x in range(g.width) if not 0 <= x - link.column + g.left < g.width)
        return rows, columns

    @cached_property
    def registers(self) -> dict[tuple[int, int], Register]:
        """(number of the link, output channel) -> where the product waits that is added there; constants need none."""
        found, begun = dict[tuple[int, int], Register](), set[int]()
        for number, link in enumerate(self.links):
            rows, columns = self.left_out(link)
            for o, product in link.products.items():
                node, rest = self.products.outputs[product], 0
                if rows or columns:
                    rest = 0 if o in begun else self.start[o]
                if self.products.nodes[node].kind != "const":
                    taken = Register(node, link.row if rows else None, link.column if columns else None, rest)
                    found[number, o] = taken
            begun |= set(link.products)
        return found

    @property
    def adders(self) -> int:
        return self.products.adders() + len(self.joins) + self.logic.adders()

    @property
    def full_adder_bits(self) -> int:
        chained = sum(width(*ends) for ends in self.joins)
        return self.products.full_adder_bits() + chained + self.logic.full_adder_bits()

    @property
    def buffered(self) -> Geometry:
        g = self.geometry
        kernel = 1 if self.rows else g.kernel[0], 1 if self.columns else g.kernel[1]
        return replace(g, kernel=kernel, top=0 if self.rows else g.top, left=0 if self.columns else g.left)

    @property
    def delays(self) -> list[tuple[int, int]]:
        return [*super().delays, *((link.word, link.delay) for link in self.links if link.delay)]
