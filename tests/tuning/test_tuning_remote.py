"""Tuning and profiling through RPC servers on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lhcc
from lhcc.tuning import measure, serve
from lhcc.tuning.database import Database
from lhcc.tuning.measure import Measurer
from lhcc.tuning.remote import RemoteError, RemoteLink, parse
from lhcc.tuning.remote_profile import profile_remotely
from lhcc.tuning.tuner import Tuner
from tests.tuning.spaces import BASE, CRASH, HANG, many, task, tune, wait

KEY = "board"
MODEL = Path(__file__).resolve().parents[2] / "examples" / "digits" / "vgg_lhc_free.onnx"


@pytest.fixture(scope="module")
def tracker() -> Iterator[str]:
    hub = serve.start_tracker()
    yield f"127.0.0.1:{hub.port}"
    hub.terminate()


@pytest.fixture
def server(tracker: str) -> Iterator[Any]:
    started = serve.start_server(tracker=tracker, key=KEY)
    yield started
    started.terminate()


def test_remote_tuning_finds_what_local_tuning_finds(
    tracker: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "CANDIDATE_S", 3.0)
    work = [task([BASE, CRASH, wait(2000), HANG, wait(300)])]
    local, _ = tune(work, str(tmp_path / "local.json"))
    remote, ended = tune(work, str(tmp_path / "remote.json"), link=RemoteLink(tracker, KEY))
    assert ended == "nothing more to gain"
    (here,), (there,) = local.searches, remote.searches
    assert here.best_number == there.best_number == 4
    assert here.failures.keys() == there.failures.keys() == {1, 3}
    assert "SIGABRT" in there.failures[1] and "did not finish" in there.failures[3]
    assert there.tuned_ratio == pytest.approx(here.tuned_ratio, rel=0.5)


def test_the_search_goes_on_when_another_server_is_registered(
    tracker: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, note = tmp_path / "tuning.json", Tuner._note
    replaced: list[serve.Service] = []

    def replace_server(self: Tuner, *args: Any, **more: Any) -> None:
        note(self, *args, **more)
        if self.measured == 4 and not replaced:
            server.terminate()
            replaced.append(serve.start_server(tracker=tracker, key=KEY))

    monkeypatch.setattr(Tuner, "_note", replace_server)
    try:
        tuner, ended = tune([many(10)], str(path), link=RemoteLink(tracker, KEY))
    finally:
        for other in replaced:
            other.terminate()
    assert replaced and ended == "nothing more to gain"
    assert tuner.measured >= 6
    assert len({str(dict(r.choice)) for r in Database(path).records() if not r.final}) >= 6


def test_a_server_that_goes_away_is_one_clear_error_and_the_database_stays(
    tracker: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, note = tmp_path / "tuning.json", Tuner._note

    def stop_server(self: Tuner, *args: Any, **more: Any) -> None:
        note(self, *args, **more)
        if self.measured == 3:
            server.terminate()

    monkeypatch.setattr(Tuner, "_note", stop_server)
    with pytest.raises(RemoteError, match=f"the tracker at .* gave no server for key '{KEY}'"):
        tune([many(10)], str(path), link=RemoteLink(tracker, KEY, patience_s=1.0))
    assert len(Database(path).records()) >= 3


def test_a_remote_profile_is_the_local_one(tracker: str, server: Any, tmp_path: Path) -> None:
    path = tmp_path / "vgg.lhcc"
    lhcc.compile(str(MODEL)).save(str(path))
    local = lhcc.load(str(path)).profile(repeats=40).json()
    remote = profile_remotely(path.read_bytes(), tracker, KEY, 40)
    for form in (remote.csv(), remote.html(), remote.trace(), str(remote)):
        assert "stage1.0.conv" in form
    there = remote.json()
    facts = ("name", "op", "encoding", "density", "macs", "macs_kept", "bytes_moved", "kernel", "schedule")
    here_layers, there_layers = ([[layer[f] for f in facts] for layer in p["layers"]] for p in (local, there))
    assert there_layers == here_layers
    assert (there["processor"], there["target"]) == (local["processor"], local["target"])
    # one machine measured twice: within its noise, which on a busy one is much
    assert there["total_us"] == pytest.approx(local["total_us"], rel=2.0)
    assert there["sum_us"] == pytest.approx(there["total_us"], rel=0.5)


def test_a_server_without_a_tracker(tmp_path: Path) -> None:
    server = serve.start_server()
    link = RemoteLink(f"127.0.0.1:{server.port}")
    try:
        assert Measurer(link).processor()
    finally:
        link.close()
        server.terminate()


def test_a_foreign_server_is_recognised() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom tvm.rpc.server import PopenRPCServerState\n"
    code += "print(PopenRPCServerState('127.0.0.1', 9600, 9700, silent=True).port, flush=True)"
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        with pytest.raises(RemoteError, match="is not one of lhcc"):
            Measurer(RemoteLink(f"127.0.0.1:{int(server.stdout.readline())}")).processor()
    finally:
        server.kill()


def test_nobody_there_is_one_sentence() -> None:
    with pytest.raises(RemoteError, match="no RPC server answers at 127.0.0.1:1 "):
        Measurer(RemoteLink("127.0.0.1:1", patience_s=0.2)).processor()


@pytest.mark.parametrize("text", ["", "9091", "host", "host:", ":9091", "host:0", "host:99999", "host:port"])
def test_an_address_has_a_host_and_a_port(text: str) -> None:
    with pytest.raises(RemoteError, match="is not of the form HOST:PORT"):
        parse(text)
    assert parse("10.0.0.7:9091") == ("10.0.0.7", 9091)
