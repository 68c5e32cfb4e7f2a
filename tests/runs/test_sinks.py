"""TensorBoard: what it shows of a run that was resumed."""

import struct

import pytest

import policygrad
from policygrad.core.errors import UserError, WriteError
from policygrad.runs import RunDirectory
from tests.worlds import DUCK, TINY

pytest.importorskip("tensorboardX")

LONG = TINY | {"total_steps": 320, "tensorboard": True}


def steps_of(run, tag="kl"):
    """The steps at which TensorBoard shows a value, as its files hold them."""
    from tensorboardX.proto import event_pb2

    found = []
    for file in sorted((run.path / "tensorboard").glob("events.out.tfevents.*")):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack("<Q", data[place : place + 8])
            event = event_pb2.Event()
            event.ParseFromString(data[place + 12 : place + 12 + length])
            found += [event.step for value in event.summary.value if value.tag == tag]
            place += 16 + length
    return found


class Enough(Exception):
    pass


def test_case_29_no_step_of_a_resumed_run_is_shown_twice(tmp_path):
    def stop(row):
        if row["update"] == 7:
            raise Enough

    stop.needs_state = False
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Enough):
        patch.setattr("policygrad.training.ending.keep_after", lambda *_: None)
        policygrad.train(DUCK, out=tmp_path / "a", on_update=stop, **LONG)
    assert steps_of(RunDirectory(tmp_path / "a"))
    run = policygrad.resume(tmp_path / "a", env=DUCK)
    assert steps_of(run) == [row["env_steps"] for row in run.metrics]
    run = policygrad.resume(tmp_path / "a", total_steps=384, env=DUCK)
    assert steps_of(run) == [row["env_steps"] for row in run.metrics]
    assert "env_steps" not in {tag for tag in ("env_steps",) if steps_of(run, tag)}


def test_files_of_others_in_the_folder_stay(tmp_path):
    run = policygrad.train(DUCK, out=tmp_path / "a", **LONG)
    own = run.path / "tensorboard" / "events.out.tfevents.1.mine"
    own.touch()
    policygrad.resume(run.path, total_steps=352, env=DUCK)
    assert own.exists()


@pytest.mark.parametrize("train", [policygrad.train, policygrad.train_seeds])
def test_case_29_tensorboard_without_a_directory_is_refused(tmp_path, monkeypatch, train):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="give out= too"):
        train(DUCK, **LONG)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "a"

    def begin(run):
        raise AssertionError

    RunDirectory.create(path)
    (path / "tensorboard").touch()
    with pytest.raises(WriteError, match="tensorboard"):
        policygrad.train(DUCK, out=path, on_update=begin, **LONG)
