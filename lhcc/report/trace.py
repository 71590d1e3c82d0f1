"""A profile in the Trace Event Format, which Perfetto and chrome://tracing open."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lhcc.runtime.profile import Profile

RUNS = 20  # replays in the trace: enough to see the spread


def to_trace(profile: Profile) -> str:
    """The measured replays one after another, every layer a slice; process and thread are one."""
    name: dict[str, Any] = {"ph": "M", "pid": 1, "tid": 1, "ts": 0}
    events = [
        {**name, "name": "process_name", "args": {"name": f"lhcc on {profile.processor}"}},
        {**name, "name": "thread_name", "args": {"name": profile.target}},
    ]
    now = 0.0
    for number, sample in enumerate(profile.samples[:RUNS]):
        slot: dict[str, Any] = {"ph": "X", "pid": 1, "tid": 1}
        events.append({**slot, "name": f"run {number}", "cat": "run", "ts": now, "dur": sum(sample), "args": {}})
        for layer, time_us in zip(profile.layers, sample, strict=True):
            about = {
                "op": layer.op, "encoding": layer.encoding, "density": layer.density, "kernel": layer.kernel,
                "schedule": layer.schedule, "macs": layer.macs, "macs_kept": layer.macs_kept, "bound": layer.bound,
            }  # fmt: skip
            events.append({**slot, "name": layer.name, "cat": "layer", "ts": now, "dur": time_us, "args": about})
            now += time_us
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})
