"""Rows of metrics: what is read of a damaged file, and what they take in memory."""

import json
import sys

import numpy as np
import pytest

from policygrad import doctor, plots
from policygrad.core.errors import RunError, WriteError
from policygrad.runs import MetricsFile, RunDirectory
from policygrad.runs.rows import CompactRows, line_of, read_rows
from policygrad.training.config import TrainConfig
from policygrad.training.metrics import Recorder

GOOD = {"update": 1, "env_steps": 32, "episodes": 0, "return_mean": None, "kl": 0.25, "mine": 3}
DAMAGED = {
    "a list": [],
    "a word": "x",
    "null": None,
    "no steps": {"update": 1},
    "no update": {"env_steps": 32},
    "steps are a word": GOOD | {"env_steps": "32"},
    "steps are a fraction": GOOD | {"env_steps": 32.5},
    "steps are a flag": GOOD | {"env_steps": True},
    "steps are negative": GOOD | {"env_steps": -1},
    "steps are huge": GOOD | {"env_steps": 2**63},
    "episodes are a word": GOOD | {"episodes": "x"},
    "a number as a word": GOOD | {"kl": "0.25"},
    "a flag": GOOD | {"kl": True},
    "a list of numbers": GOOD | {"kl": [0.25]},
    "a nested object": GOOD | {"mine": {"a": {}}},
    "an infinity": GOOD | {"kl": float("inf")},
    "a number beyond any float": GOOD | {"mine": 10**400},
    "an own number as a word": GOOD | {"mine": "x"},
}
RAW = {
    "nul bytes": b"\0\0\0\0",
    "deep nesting": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "not UTF-8": b"\xff\xfe{}",
    "too many digits": b'{"update": ' + b"9" * 5000 + b"}",
    "cut in the middle": b'{"update": 1, "env_st',
}


def damaged():
    for name, row in DAMAGED.items():
        yield pytest.param(json.dumps(row).encode(), id=name)
    for name, line in RAW.items():
        yield pytest.param(line, id=name)


@pytest.mark.parametrize("line", list(damaged()))
def test_fault_17_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\n".join([good, line, good, good]) + b"\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2, is damaged") as caught:
        read_rows(path)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize("line", [*RAW.values(), b'{"update": 1, "env_steps": "x"}'])
def test_fault_17_no_reader_of_a_run_ends_in_another_error(trained, tmp_path, line):
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((trained.path / name).read_bytes())
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(RunError, match="line 1, is damaged"):
        plots.learning_curve([tmp_path])
    with pytest.raises(RunError, match="line 1, is damaged"):
        doctor.diagnose(tmp_path)
    with pytest.raises(RunError, match="line 1, is damaged"):
        MetricsFile(path, read_rows(path, 2))


def test_what_lies_behind_the_checkpoint_is_dropped_damaged_or_not(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [GOOD | {"update": n, "env_steps": 32 * n} for n in (1, 2, 3)]
    lines = [json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join([*lines[:2], b"\0\0\0", lines[2]]) + b"\n")
    file = MetricsFile(path, read_rows(path, 2))
    file.close()
    assert read_rows(path, 2) == rows[:2]
    assert read_rows(path) == rows[:2]


def test_a_run_that_began_without_a_row_goes_on_without_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"upd')
    file = MetricsFile(path, read_rows(path, 0))
    file.write(GOOD)
    file.close()
    assert read_rows(path) == [GOOD]


def test_good_rows_are_read_as_they_are(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n"[:1])
    assert read_rows(path) == [GOOD]
    assert RunDirectory(tmp_path).read_metrics() == [GOOD]


# ----- in memory


def test_compact_rows_are_the_rows():
    rows = [
        {"update": 1, "kl": 0.1, "return_mean": None},
        {"update": 2, "kl": float("nan"), "noise": 3.5},
        {"update": 3, "kl": 1e-300, "return_mean": 7.0},
    ]
    kept = CompactRows()
    for row in rows:
        kept.append(row)
    assert len(kept) == 3
    assert [set(row) for row in kept] == [set(row) for row in rows]
    assert kept[0] == rows[0]
    assert kept[-1] == rows[2]
    assert kept[::2] == rows[::2]
    assert np.isnan(kept[1]["kl"])
    assert [type(value) for value in kept[2].values()] == [int, float, float]
    assert "return_mean" not in kept[1]
    assert CompactRows() == []
    with pytest.raises(IndexError):
        kept[3]


def test_compact_rows_take_some_nine_bytes_a_number():
    kept, names = CompactRows(), [f"metric {i}" for i in range(18)]
    for i in range(5000):
        kept.append(dict.fromkeys(names, i * 1.5))
    sizes = [sys.getsizeof(x) for column in kept._columns.values() for x in column]
    assert sum(sizes) < 12 * 18 * 5000


# ----- several sinks


class Broken:
    """A sink whose every call fails."""

    def write(self, row):
        raise OSError(28, "No space left on device")

    def close(self):
        raise OSError(5, "Input/output error")


class Counts:
    """A sink that tells that it was closed."""

    closed = 0

    def write(self, row):
        pass

    def close(self):
        type(self).closed += 1


def opened(tmp_path, monkeypatch, **makers):
    monkeypatch.setattr("policygrad.runs.sinks.sinks_of", lambda *_, **__: makers)
    directory = RunDirectory.create(tmp_path / "a")
    return Recorder().opened(TrainConfig(), directory, None)


def test_the_sink_that_cannot_be_written_is_named_and_the_others_are_closed(tmp_path, monkeypatch):
    Counts.closed = 0
    with (
        pytest.raises(WriteError, match="a/wandb: No space left on device"),
        opened(tmp_path, monkeypatch, first=Counts, wandb=Broken, last=Counts) as recorder,
    ):
        recorder.record([GOOD])
    assert Counts.closed == 2
    assert recorder.writers == {}
    assert read_rows(tmp_path / "a" / "metrics.jsonl") == [GOOD]


def test_the_sink_that_cannot_be_closed_is_named_and_the_others_are_closed(tmp_path, monkeypatch):
    Counts.closed = 0
    makers = {"first": Counts, "wandb": Broken, "last": Counts}
    with (
        pytest.raises(WriteError, match="a/wandb: Input/output error"),
        opened(tmp_path, monkeypatch, **makers) as recorder,
    ):
        pass
    assert Counts.closed == 2
    assert recorder.writers == {}


def test_a_sink_that_cannot_be_opened_is_named_and_the_others_are_closed(tmp_path, monkeypatch):
    def fails():
        raise OSError(13, "Permission denied")

    Counts.closed = 0
    with (
        pytest.raises(WriteError, match="a/wandb: Permission denied"),
        opened(tmp_path, monkeypatch, first=Counts, wandb=fails),
    ):
        raise AssertionError
    assert Counts.closed == 1


def test_a_resumed_run_does_not_hold_the_rows_before_it(tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(
        "policygrad.runs.sinks.sinks_of", lambda path, kept, **_: held.append(kept) or {}
    )
    directory = RunDirectory.create(tmp_path / "a")
    (directory.path / "metrics.jsonl").write_bytes(line_of(GOOD))
    with Recorder().opened(TrainConfig(), directory, GOOD["update"]):
        assert held == [[]]
    assert directory.read_metrics() == [GOOD]
