import contextlib
import json
import os
import shutil

import numpy as np
import pytest

import policygrad
from policygrad import plots
from policygrad.core.errors import RunError, UserError
from policygrad.core.failures import Failure
from policygrad.runs import MetricsFile, RunDirectory, fresh_directory, storage
from policygrad.runs.directory import OWN_FILES
from policygrad.runs.rows import read_rows
from policygrad.training import entry
from tests.runs.test_storage import every_payload


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run on disk, to be damaged."""
    shutil.copytree(trained.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def every_use(path):
    """What reads a run: each must fail with a RunError, or read what was written."""
    yield "load", lambda: policygrad.load(path)
    yield "evaluate", lambda: policygrad.evaluate(path, episodes=1, max_episode_steps=2)
    yield "plot", lambda: plots.learning_curve([path])
    yield (
        "resume",
        lambda: policygrad.resume(path, total_steps=100),
    )  # last: it writes the policy anew


# ----- damage


class ReadEverything(Exception):
    """Stands for the training that would begin now."""


@pytest.fixture
def only_reading(monkeypatch):
    """`resume` stops once the configuration was read: compiling for every flip takes too long."""

    def start(*arguments):
        raise ReadEverything(arguments)

    monkeypatch.setattr(entry, "assemble", start)


def read_configuration(run):
    """What `resume` made of the files, or the RunError or UserError that it raised."""
    with pytest.raises((ReadEverything, UserError)) as caught:
        policygrad.resume(run.path, total_steps=1000)
    return caught.value


def test_configuration_is_read_whole(run, only_reading):
    task, config, *_ = read_configuration(run).args[0]
    assert task.env == "CartPole-v1"
    assert task.env_kwargs == {}
    assert config.num_envs == 4


@pytest.mark.parametrize("bit", [0, 1, 4, 7])
def test_flipped_bit_of_the_configuration_is_an_error_or_nothing(run, only_reading, bit):
    """Never a traceback, and never a run that trains with another setting."""
    path = run.path / "config.json"
    content = path.read_bytes()
    good = read_configuration(run).args
    unnoticed = []
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        error = read_configuration(run)
        if isinstance(error, ReadEverything) and error.args != good:
            unnoticed.append(flipped[max(0, place - 20) : place + 6].decode())
    assert not unnoticed, f"{len(unnoticed)} flips pass unnoticed, such as {unnoticed[:3]}"


def test_truncated_configuration_is_an_error(run, only_reading):
    path = run.path / "config.json"
    content = path.read_bytes()
    for length in range(0, len(content.rstrip()), 7):
        path.write_bytes(content[:length])
        assert isinstance(read_configuration(run), RunError)


@pytest.mark.parametrize(
    "change",
    [
        {"config": 3},
        {"config": []},
        {"config": None},
        {"objects": ["nonsense"]},
        {"objects": 3},
        {"env": 3},
        {"env_kwargs": []},
        {"config": {"hidden": 8}},
        {"config": {"seed": "x"}},
        {"config": {"normalise_advantages": "no"}},
    ],
    ids=str,
)
def test_configuration_of_another_shape_is_an_error(run, change):
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError):
        policygrad.resume(run.path, total_steps=65)


@pytest.mark.parametrize("version", [3, None, "1"])
def test_newer_run_is_refused(run, version):
    config = json.loads((run.path / "config.json").read_text()) | {"format": version}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="reads up to 2; upgrade policygrad"):
        policygrad.resume(run.path, total_steps=65)


@pytest.mark.filterwarnings("ignore:.*holds no metrics of updates")  # the last line
@pytest.mark.parametrize("bit", [0, 5, 7])
def test_flipped_bit_of_the_metrics_is_an_error_or_a_number(run, bit):
    path = run.path / "metrics.jsonl"
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            rows = run.read_metrics()
            [plots.series(rows, name) for name, _ in plots.PANELS]
        except RunError as error:
            assert "metrics.jsonl" in str(error)


@pytest.mark.parametrize(
    ("kept", "told"),
    [((0, 1), None), ((0,), "from 2 on"), ((1,), "from 1 to 1"), ((), "from 1 on")],
)
def test_updates_that_are_missing_from_the_metrics_are_told(run, kept, told):
    path = run.path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    path.write_bytes(b"".join(lines[i] for i in kept))
    with (
        contextlib.nullcontext()
        if told is None
        else pytest.warns(UserWarning, match=f"holds no metrics of updates {told}, which")
    ):
        assert len(run.read_metrics()) == len(kept)


def test_metrics_in_another_order_are_damaged(run):
    path = run.path / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[::-1]))
    with pytest.raises(RunError, match="damaged: update 1 follows update 2"):
        run.read_metrics()


def test_metrics_that_are_no_metrics_are_an_error(run):
    for text in ("3\n{}\n", "[]\n[]\n", '"a"\n3\n'):
        (run.path / "metrics.jsonl").write_text(text)
        with pytest.raises(RunError, match=r"metrics\.jsonl"):
            plots.learning_curve([run.path])


SLOTS = (
    "config.json",
    "metrics.jsonl",
    "policy.json",
    "policy.safetensors",
    "checkpoints/*/state.json",
    "checkpoints/*/state.safetensors",
)


@every_payload
@pytest.mark.parametrize("slot", SLOTS)
def test_pickle_in_any_slot_is_never_executed(run, tmp_path, slot, hostile):
    mark = tmp_path / "executed"
    files = list(run.path.glob(slot))
    assert files
    for file in files:
        file.write_bytes(hostile(mark))
    failed = set()
    for name, use in every_use(run.path):
        try:
            use()
        except RunError as error:
            failed.add(name)
            assert "\n" not in str(error)
    assert not mark.exists()
    readers = {
        "config.json": {"resume", "evaluate"},
        "metrics.jsonl": {"plot"},
        "policy.json": {"load", "evaluate"},
        "policy.safetensors": {"load", "evaluate"},
    }
    assert failed >= readers.get(slot, {"resume"})


@pytest.mark.filterwarnings("ignore:.*holds no metrics of updates")
@pytest.mark.parametrize("slot", SLOTS)
def test_missing_file_is_an_error_or_not_needed(run, slot):
    for file in run.path.glob(slot):
        file.unlink()
    for _, use in every_use(run.path):
        try:
            use()
        except RunError as error:
            assert str(run.path) in str(error)


@pytest.mark.filterwarnings("ignore:.*holds no metrics of updates")
@pytest.mark.parametrize("slot", SLOTS)
def test_truncated_file_is_an_error_or_not_needed(run, slot):
    for file in run.path.glob(slot):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    failed = []
    for name, use in every_use(run.path):
        try:
            use()
        except RunError:
            failed.append(name)
    # a last line of the metrics that a kill cut short is left out
    assert failed or slot == "metrics.jsonl"


def test_damaged_checkpoint_is_an_error_of_resume_and_names_the_file(run):
    path = run.newest_checkpoint() / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"state\.safetensors is damaged"):
        policygrad.resume(run.path, total_steps=65)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_missing_run(tmp_path, name):
    for use in (policygrad.resume, policygrad.load, policygrad.evaluate):
        with pytest.raises(RunError, match=r"no run"):
            use(tmp_path / name)


# ----- a new directory


@pytest.mark.parametrize("name", OWN_FILES)
def test_directory_that_holds_a_run_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(
        UserError, match=r"already holds a run; .* continue it with: policygrad resume"
    ):
        RunDirectory.create(tmp_path)


def test_directory_without_a_run_is_taken(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert RunDirectory.create(tmp_path).path == tmp_path
    assert RunDirectory.create(tmp_path / "a" / "b").path.is_dir()


def test_file_is_no_directory(tmp_path):
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(UserError, match=r"--out .*a"):
            RunDirectory.create(path)


def test_fresh_directory_counts_up(tmp_path):
    for name in ("x", "x-2", "x-3"):
        path = fresh_directory(tmp_path, "x")
        assert path.name == name
        path.mkdir()


def test_checkpoints_are_in_the_order_of_their_steps_whatever_their_digits(tmp_path):
    directory = RunDirectory.create(tmp_path / "a")
    for steps in (999_999_999_999, 10**12, 10**12 + 1):
        directory.save_checkpoint(steps, {"x": np.zeros(1)}, {}, keep=2)
    assert [int(p.name) for p in directory.checkpoints()] == [10**12, 10**12 + 1]
    assert int(directory.newest_checkpoint().name) == 10**12 + 1


def test_a_checkpoint_takes_the_place_of_another_of_the_same_steps(tmp_path, monkeypatch):
    directory, moved, there = RunDirectory.create(tmp_path / "a"), os.replace, []

    def look(a, b):
        if os.path.isdir(a):
            there.append(len(directory.checkpoints()))
        moved(a, b)

    monkeypatch.setattr(os, "replace", look)
    for number in range(3):
        directory.save_checkpoint(8, {"x": np.zeros(1)}, {"number": number}, keep=2)
        (kept,) = directory.checkpoints()
        assert int(kept.name) == 8
        assert storage.load(kept / "state")[1]["number"] == number
    assert there == [0, 1, 1]


# ----- metrics


def test_metrics_go_on_behind_the_update_that_was_resumed_from(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    for update in (1, 2, 3, 4):
        first.write({"update": update, "env_steps": 8 * update, "kl": float("nan")})
    first.close()
    path.write_text(path.read_text() + '{"update": 5, "env')  # killed while writing
    second = MetricsFile(path, read_rows(path, 2))
    second.write({"update": 3, "env_steps": 24, "kl": 0.5})
    second.close()
    lines = path.read_text().splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [r["update"] for r in rows] == [1, 2, 3]
    assert [r["kl"] for r in rows] == [None, None, 0.5]


def test_new_metrics_replace_old_ones(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1}\n')
    MetricsFile(path).close()
    assert path.read_text() == ""


def test_resumed_run_has_one_line_an_update(run):
    before = run.read_metrics()
    resumed = policygrad.resume(run.path, total_steps=150)
    rows = run.read_metrics()
    assert rows[: len(before)] == before
    assert [r["update"] for r in rows] == list(range(1, resumed.summary["updates"] + 1))
    assert np.all(np.diff([r["env_steps"] for r in rows]) > 0)
    assert np.all(np.diff([r["seconds"] for r in rows]) > 0)


def test_last_line_that_was_cut_short_is_left_out(run):
    rows = run.read_metrics()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"update": 99, "env_st')
    assert run.read_metrics() == rows


def test_line_in_the_middle_that_is_damaged_is_named(run):
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    lines[0] = lines[0][:9]
    (run.path / "metrics.jsonl").write_text("\n".join(lines))
    with pytest.raises(RunError, match="line 1, is damaged"):
        run.read_metrics()


def test_a_failure_is_read_back_with_its_kind(run):
    run.write_failure("nan in the reward of environment 2", 64, "reward")
    assert run.read_failure() == Failure("nan in the reward of environment 2", 64, "reward")
    run.write_failure("something else", 64)
    assert run.read_failure() == Failure("something else", 64, None)
    (run.path / "failure.json").write_text('{"message": 3}')
    with pytest.raises(RunError, match=r"failure.json is damaged: 'message' is 3"):
        run.read_failure()
    run.go_on()
    assert run.read_failure() is None
