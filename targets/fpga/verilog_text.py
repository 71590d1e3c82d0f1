"""Names, counters and conditions as Verilog writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_RESERVED = frozenset(
    """accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind
    bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clk clocking cmos
    config const constraint context continue cover covergroup coverpoint cross deassign default defparam
    design disable dist do edge else end endcase endclass endfunction endmodule endtask enum event eventually
    expect export extends extern final first_match for force foreach forever fork forkjoin function generate
    genvar global highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir
    include initial inout input inside instance int integer interconnect interface intersect join join_any
    join_none large let liblist library local localparam logic longint macromodule matches medium modport
    module nand negedge nettype new nexttime nmos nor noshowcancelled not notif0 notif1 null or output package
    packed parameter pmos posedge primitive priority program property protected pull0 pull1 pulldown pullup
    pure rand randc randcase randsequence rcmos real realtime ref reg reject_on release repeat restrict return
    rnmos rpmos rst rtran s_always s_eventually s_nexttime s_until scalared sequence shortint shortreal
    showcancelled signed small soft solve specify specparam static string strong strong0 strong1 struct super
    supply0 supply1 sync_accept_on table tagged task this throughout time timeprecision timeunit tran tri tri0
    tri1 triand trior trireg type typedef union unique unsigned until untyped use uwire var vectored virtual
    void wait wand weak weak0 weak1 while wildcard wire with within wor xnor xor""".split()
)
"""keywords of Verilog and SystemVerilog, and our own ports"""


def identifier(name: str) -> str:
    """A user's layer name as a Verilog identifier; `layer1.0/conv` becomes layer1_0_conv."""
    text = re.sub(r"\W", "_", name)
    return f"l_{text}" if not text or text[0].isdigit() or text in _RESERVED else text


def counter_bits(values: int) -> int:
    return max(1, (values - 1).bit_length())


def ranges(variable: str, values: Sequence[int], count: int) -> str:
    """A condition that holds for just these values of a counter that runs over range(count)."""
    bits, parts, k = counter_bits(count), list[str](), 0
    ordered = sorted(values)
    while k < len(ordered):
        first = k
        while k + 1 < len(ordered) and ordered[k + 1] == ordered[k] + 1:
            k += 1
        low, high = ordered[first], ordered[k]
        if low == high:
            parts.append(f"{variable} == {bits}'d{low}")
        elif low == 0 and high == count - 1:
            return "1'b1"
        elif low == 0:
            parts.append(f"{variable} <= {bits}'d{high}")
        elif high == count - 1:
            parts.append(f"{variable} >= {bits}'d{low}")
        else:
            parts.append(f"({variable} >= {bits}'d{low} & {variable} <= {bits}'d{high})")
        k += 1
    return " | ".join(parts) or "1'b0"
