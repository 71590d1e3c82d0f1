"""`lhcc serve`: the board's end of remote tuning and profiling, a TVM RPC server that relays to a worker.

Servers and trackers are processes of this module's own, which import TVM without PyTorch and end with their children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lhcc
from lhcc.errors import LhccError
from lhcc.runtime.library import import_tvm
from lhcc.tuning.remote import offer_relay, parse
from lhcc.tuning.worker import die_with_parent

LOOPBACK = "127.0.0.1"
PORTS = 100  # that are tried, from the first one on
WARNING = "whoever can reach this port can run any code here: keep it to networks that you trust"


class ServeError(LhccError):
    """A server or a tracker cannot be started."""


class Service:
    """A server or a tracker in a process of its own; `port` is where it listens."""

    def __init__(self, role: str, host: str, port: int, tracker: str = "", key: str = "") -> None:
        root = str(Path(lhcc.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-m", "lhcc.tuning.serve", role, host, str(port), tracker, key]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        if not answer.isdigit():
            self.terminate()
            raise ServeError(f"no {role} can be started at {host}:{port}: {answer or 'its process ended'}")
        self.port = int(answer)

    def terminate(self) -> None:
        """Ends it with the sessions that it serves."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_server(host: str = LOOPBACK, port: int = 9091, tracker: str | None = None, key: str = "") -> Service:
    """An RPC server, made known to the tracker under the key; if the port is taken, the next free one."""
    if tracker:
        parse(tracker)
    return Service("server", host, port, tracker or "", key)


def start_tracker(host: str = LOOPBACK, port: int = 9190) -> Service:
    """TVM's tracker, which hands servers to tuners."""
    return Service("tracker", host, port)


def serve(
    host: str,
    port: int,
    tracker: str | None,
    key: str,
    with_tracker: bool,
    ready: Callable[[Mapping[str, Any]], None] = lambda place: None,
) -> None:
    """Serves until it is interrupted; `ready` is told where, once it listens."""
    hub = start_tracker(host) if with_tracker else None
    try:
        if hub is not None:
            tracker = f"{host}:{hub.port}"
            print(f"tracker at {tracker}", file=sys.stderr)
        server = start_server(host, port, tracker, key)
        try:
            place = f"{host}:{server.port}" + (f" for key {key}" if key else "")
            print(f"serving at {place}; {WARNING}", file=sys.stderr, flush=True)
            ready({"host": host, "port": server.port, "tracker": tracker, "key": key})
            server.process.wait()
        finally:
            server.terminate()
    finally:
        if hub is not None:
            hub.terminate()


def _run(role: str, host: str, port: int, tracker: str, key: str) -> int:
    """Starts the threads that serve in this process; the port."""
    import_tvm()
    from tvm.rpc.server import PopenRPCServerState
    from tvm.rpc.tracker import PopenTrackerServerState

    if role == "tracker":
        return int(PopenTrackerServerState(host, port, port + PORTS, silent=True).port)
    offer_relay()
    where = parse(tracker) if tracker else None
    state = PopenRPCServerState(
        host, port, port + PORTS, tracker_addr=where, key=key, silent=True, custom_addr=host if tracker else None
    )
    return int(state.port)


if __name__ == "__main__":
    die_with_parent()
    try:
        print(_run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]), flush=True)
    except (OSError, ValueError) as error:
        print(error, flush=True)
