"""`lhcc serve`: the board's end of remote tuning and profiling, a TVM RPC server that relays to a worker."""

from __future__ import annotations

import sys
import time
from typing import Any

from lhcc.runtime.library import import_tvm
from lhcc.tuning.remote import parse

LOOPBACK = "127.0.0.1"
WARNING = "whoever can reach this port can run any code here: keep it to networks that you trust"


def start_server(
    host: str = LOOPBACK, port: int = 9091, tracker: str | None = None, key: str = "", silent: bool = False
) -> Any:
    """An RPC server in a process of its own; `.port` is where, `.terminate()` ends it.  A taken port: the next one."""
    import_tvm()
    from tvm import rpc

    from lhcc.tuning.remote import offer_relay

    where = parse(tracker) if tracker else None
    return rpc.Server(
        host,
        port,
        port + 100,
        tracker_addr=where,
        key=key,
        silent=silent,
        server_init_callback=offer_relay,
        custom_addr=host if tracker else None,
    )


def start_tracker(host: str = LOOPBACK, port: int = 9190, silent: bool = False) -> Any:
    """TVM's tracker, which hands servers to tuners; `.port` is where, `.terminate()` ends it."""
    import_tvm()
    from tvm.rpc.tracker import Tracker

    return Tracker(host, port, port + 100, silent=silent)


def serve(host: str, port: int, tracker: str | None, key: str, with_tracker: bool) -> None:
    """Serves until it is interrupted."""
    hub = start_tracker(host) if with_tracker else None
    if hub is not None:
        tracker = f"{host}:{hub.port}"
        print(f"tracker at {tracker}", file=sys.stderr)
    server = start_server(host, port, tracker, key)
    try:
        place = f"{host}:{server.port}" + (f" for key {key}" if key else "")
        print(f"serving at {place}; {WARNING}", file=sys.stderr, flush=True)
        while True:
            time.sleep(3600)
    finally:
        server.terminate()
        if hub is not None:
            hub.terminate()
