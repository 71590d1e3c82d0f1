"""Measuring on another machine over TVM's RPC: requests are relayed to a worker process there."""

from __future__ import annotations

import json
import pickle
import re
import threading
import time
from collections.abc import Sequence
from typing import Any

from lhcc.errors import LhccError
from lhcc.runtime.library import import_tvm
from lhcc.tuning.measure import LinkBroken, WorkerLost

REQUEST = "lhcc.tuning.request"  # the name under which our servers offer `relay`
NETWORK_S = 30.0  # that a request may take longer than its work
PATIENCE_S = 30.0  # for a server to appear, when the one that measured is gone
RETRY_S = 1.0


LOST = "lost"  # the status of an answer: the worker behind the server is gone, the server is not


class RemoteError(LhccError):
    """There is no server, or it is not one of ours."""


class RemoteLink:
    """A worker behind HOST:PORT: an RPC server's, or, with a key, that of a tracker which hands out servers."""

    def __init__(self, address: str, key: str = "", patience_s: float = PATIENCE_S) -> None:
        self.host, self.port = parse(address)
        self.key, self.patience_s = key, patience_s
        self.session: Any = None
        self.function: Any = None
        self.reached = False

    def ask(self, request: Sequence[Any], seconds: float) -> tuple[str, Any]:
        if self.function is None:
            self._connect()
        try:
            answer = _within(seconds + NETWORK_S, self.function, pickle.dumps((request, seconds)))
        except TimeoutError:
            self.close()  # the server ends a session whose client is gone
            raise LinkBroken(f"{self.host}:{self.port} did not answer within {seconds + NETWORK_S:.0f} s") from None
        except KeyboardInterrupt:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise LinkBroken(f"the connection to {self.host}:{self.port} broke: {_first_line(error)}") from None
        status, value = json.loads(str(answer))
        if status == LOST:
            raise WorkerLost(str(value))
        return str(status), value

    def _connect(self) -> None:
        """Waits a while for a server: the first time briefly, later as long as another may take its place."""
        import_tvm()
        deadline = time.monotonic() + (self.patience_s if self.reached else min(5.0, self.patience_s))
        while True:
            try:
                self.session = self._open(max(RETRY_S, deadline - time.monotonic()))
                break
            except Exception as error:
                if time.monotonic() > deadline:
                    raise self._absent(error) from None
                time.sleep(RETRY_S)
        try:
            self.function = self.session.get_function(REQUEST)
        except Exception:
            where = f"{self.host}:{self.port}"
            raise RemoteError(f"the RPC server at {where} is not one of lhcc", "start it with: lhcc serve") from None
        self.reached = True

    def _open(self, seconds: float) -> Any:
        from tvm import rpc

        if not self.key:
            return _within(seconds, rpc.connect, self.host, self.port)
        tracker = rpc.connect_tracker(self.host, self.port)
        return _within(seconds, lambda: tracker.request(self.key, max_retry=1))

    def _absent(self, error: Exception) -> RemoteError:
        where = f"{self.host}:{self.port}"
        if self.key:
            return RemoteError(
                f"the tracker at {where} gave no server for key '{self.key}' ({_first_line(error)})",
                f"on the board: lhcc serve --tracker {where} --key {self.key}",
            )
        return RemoteError(f"no RPC server answers at {where} ({_first_line(error)})", "on the board: lhcc serve")

    def close(self) -> None:
        self.session = self.function = None


def offer_relay() -> None:
    """Called in an RPC server: lets its clients talk to a worker, which is a process of its own here, too."""
    from lhcc.runtime.library import ffi
    from lhcc.tuning.measure import LocalLink

    link = LocalLink()

    def relay(data: bytes) -> str:
        request, seconds = pickle.loads(data)
        try:
            answer = link.ask(request, seconds)
        except WorkerLost as error:
            answer = LOST, str(error)
        return json.dumps(answer)  # the tuner runs nothing of what a server sends

    ffi().register_global_func(REQUEST, relay, override=True)


def parse(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise RemoteError(f"'{address}' is not of the form HOST:PORT")
    return host, int(port)


def _within(seconds: float, function: Any, *arguments: Any) -> Any:
    """The result of a call that may never return; its thread is then left behind."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append((function(*arguments), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    value, error = found[0]
    if error is not None:
        raise error
    return value


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines else type(error).__name__
    return re.sub(r"Check failed: \(.*\) is false: ", "", said)[:200]
