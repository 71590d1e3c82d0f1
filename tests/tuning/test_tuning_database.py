"""The database: nothing that was measured is lost, and nothing is used where it does not count."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lhcc.tuning.database import DamagedLine, Database, DatabaseError, Record, Setting, best, merge

HERE = Setting("skylake host", "This CPU", 1)


def record(depth: int, us: float | None, **changes: Any) -> Record:
    values: dict[str, Any] = {"base_us": 100.0, **changes}
    return Record("conv", values.pop("setting", HERE), {"depth": depth}, us, **values)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "tuning.json")


def test_what_is_added_is_read_back(database: Database) -> None:
    records = [record(16, 50.0), record(8, None, error="it crashed"), record(4, 70.5, final=True)]
    for one in records:
        database.add(one)
    assert Database(database.path).records() == tuple(records)
    assert Database(database.path.with_name("none.json")).records() == ()


def test_every_torn_end_costs_one_record_and_no_later_one(database: Database) -> None:
    for depth in (1, 2, 4):
        database.add(record(depth, 50.0))
    whole = database.path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last + 1, len(whole) - 1, 7):
        database.path.write_bytes(whole[:cut])
        with pytest.warns(DamagedLine, match="line 3, is left out"):
            assert [r.choice["depth"] for r in database.records()] == [1, 2]
        database.add(record(8, 60.0))
        with pytest.warns(DamagedLine):
            assert [r.choice["depth"] for r in database.records()] == [1, 2, 8]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "nonsense",
        "{}",
        '{"format":2}',
        record(1, 2.0).to_json().replace('"us":2.0', '"us":-2.0'),
        record(1, 2.0).to_json().replace('"us":2.0', '"us":"2"'),
        record(1, 2.0).to_json().replace('"threads":1', '"cores":1'),
        record(1, 2.0).to_json().replace('{"depth":1}', "16"),
        "\udcff",
    ],
)
def test_lines_that_are_no_records_are_left_out(database: Database, line: str) -> None:
    database.path.write_bytes(line.encode(errors="surrogateescape") + b"\n")
    database.add(record(8, 60.0))
    with pytest.warns(DamagedLine, match="line 1"):
        assert len(database.records()) == 1


def test_two_writers_at_once_lose_nothing(database: Database) -> None:
    code = (
        "import sys; from lhcc.tuning.database import *; db = Database(sys.argv[1]); who = int(sys.argv[2])\n"
        "for n in range(150): db.add(Record('w' * (n % 90), Setting('t', 'p', who), {'n': n}, 1.0, 2.0))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(database.path), str(who)]) for who in (1, 2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = database.records()
    for who in (1, 2):
        assert [r.choice["n"] for r in found if r.setting.threads == who] == list(range(150))


def test_the_last_decision_counts_whatever_was_measured_before() -> None:
    decided = [record(16, 50.0), record(8, 80.0, final=True), record(4, 90.0, final=True)]
    assert best(decided) == {"depth": 4}
    assert best([*decided, record(2, 30.0)]) == {"depth": 4}


def test_a_small_gain_in_a_first_measurement_is_not_believed() -> None:
    assert best([record(16, 98.0), record(8, 120.0)]) is None
    assert best([record(16, 90.0), record(8, 120.0)]) == {"depth": 16}
    assert best([record(16, None, error="it crashed")]) is None


def test_times_count_relative_to_the_untuned_one() -> None:
    assert best([record(16, 50.0, base_us=60.0), record(8, 70.0, base_us=140.0)]) == {"depth": 8}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"processor": "Other CPU"}, "measured on Other CPU and are not used: the processor is This CPU"),
        ({"target": "znver4 host"}, "measured for target znver4 host and are not used: the target is skylake host"),
        ({"threads": 2}, "measured with 2 threads and are not used"),
        ({"lhcc": "0.0.1"}, "measured by lhcc 0.0.1 and are not used"),
    ],
)
def test_records_of_another_setting_are_refused_with_the_reason(
    database: Database, change: dict[str, Any], reason: str
) -> None:
    database.add(record(16, 50.0, final=True, setting=replace(HERE, **change)))
    match = database.find("conv", HERE)
    assert match.choice is None
    assert reason in match.reason


def test_an_unknown_workload_is_said_to_be_unknown(database: Database) -> None:
    database.add(record(16, 50.0))
    assert database.find("dense", HERE).reason == "this workload is not in the tuning database"


def test_code_for_another_machine_takes_what_its_processor_measured(database: Database) -> None:
    database.add(record(16, 50.0, final=True, setting=replace(HERE, processor="Board A")))
    database.add(record(8, 40.0, final=True, setting=replace(HERE, processor="Board B")))
    match = database.find("conv", replace(HERE, processor=""))
    assert match.choice == {"depth": 8}
    assert "on Board B" in match.reason


def test_merging_adds_each_record_once(database: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "other.json")
    database.add(record(16, 50.0))
    for one in (record(16, 50.0), record(8, 40.0), record(8, 40.0)):
        other.add(one)
    assert merge([other.path, other.path], database.path) == 1
    assert merge([other.path], database.path) == 0
    assert [r.choice["depth"] for r in database.records()] == [16, 8]
    with pytest.raises(DatabaseError, match="does not exist"):
        merge([tmp_path / "missing.json"], database.path)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot write to the tuning database"):
        Database(tmp_path / "missing" / "tuning.json").add(record(1, 1.0))
    with pytest.raises(DatabaseError, match="cannot read"):
        Database(tmp_path).records()


def test_lines_are_plain_json(database: Database) -> None:
    database.add(record(16, 50.0))
    values = json.loads(database.path.read_text())
    assert values["choice"] == {"depth": 16} and values["setting"]["processor"] == "This CPU"
