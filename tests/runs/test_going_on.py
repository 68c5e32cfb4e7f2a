"""A run that goes on: from its start, from its newest checkpoint, or from a named one."""

import json
import os
import shutil

import numpy as np
import pytest

import policygrad
from policygrad.core.errors import RunError, UserError
from policygrad.runs import RunDirectory, storage
from policygrad.runs.directory import STATE
from tests.worlds import DUCK, TINY

LONG = TINY | {"total_steps": 160, "checkpoint_seconds": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with several checkpoints."""
    path = tmp_path_factory.mktemp("runs") / "a"
    return policygrad.train(DUCK, out=path, keep_checkpoints=10, **LONG)


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def bits(run):
    return {k: x.tobytes() for k, x in storage.to_arrays(run.policy, "policy").items()}


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# ----- what says how a run ended


def test_fault_01_a_run_that_goes_on_shows_its_newest_policy(run):
    class Killed(BaseException):
        pass

    def kill(row):
        assert not (run.path / "summary.json").exists()
        assert not (run.path / "policy.json").exists()
        if row["update"] == 8:
            raise Killed

    kill.needs_state = False
    with pytest.MonkeyPatch.context() as patch:  # as if the process were killed
        patch.setattr("policygrad.training.ending.keep_after", lambda *_: None)
        with pytest.raises(Killed):
            policygrad.resume(run.path, total_steps=640, env=DUCK, on_update=kill)
    arrays, data = storage.load(run.newest_checkpoint() / STATE)
    assert data["env_steps"] > 160
    loaded = storage.to_arrays(policygrad.load(run.path).policy, "policy")
    assert all(np.array_equal(x, arrays[name]) for name, x in loaded.items())


# ----- stopped before the first checkpoint


@pytest.mark.parametrize("left", ["nothing", "an unfinished checkpoint", "no folder"])
def test_fault_09_a_run_that_was_killed_before_its_first_checkpoint_begins(whole, tmp_path, left):
    path = tmp_path / "a"
    (path / "checkpoints").mkdir(parents=True)
    shutil.copy(whole.path / "config.json", path)
    if left == "an unfinished checkpoint":
        (path / "checkpoints" / ".000000000000.123.tmp").mkdir()
    if left == "no folder":
        (path / "checkpoints").rmdir()
    if left != "no folder":
        with pytest.raises(RunError, match="begin it with: policygrad resume"):
            policygrad.load(path)
    with pytest.raises(UserError, match="already holds a run"):
        policygrad.train(DUCK, out=path, **LONG)
    if left == "no folder":
        return
    resumed = policygrad.resume(path, env=DUCK)
    assert bits(resumed) == bits(whole)
    assert [row["update"] for row in resumed.metrics] == [1, 2, 3, 4, 5]


def test_fault_09_what_is_empty_is_no_run(tmp_path):
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    assert policygrad.train(DUCK, out=tmp_path / "a", **TINY).path == tmp_path / "a"


def test_a_run_that_lost_all_its_checkpoints_does_not_begin_anew(run):
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(RunError, match="has no checkpoint that is whole"):
        policygrad.resume(run.path, total_steps=320, env=DUCK)


# ----- what is no checkpoint


@pytest.mark.parametrize(
    "name", ["best", "000000000096.bak", "copy of 96", "96 ", "-1", "٣", "0x60", ".9999", "1e9"]
)
def test_fault_11_a_folder_with_another_name_is_no_checkpoint(run, name):
    shutil.copytree(run.checkpoints()[0], run.path / "checkpoints" / name)
    assert run.newest_checkpoint().name == "000000000160"
    assert len(run.checkpoints()) == 6


@pytest.mark.parametrize("kind", ["empty", "arrays alone", "a file"])
def test_fault_11_a_number_without_a_state_is_no_checkpoint(run, kind):
    folder = run.path / "checkpoints" / "000000009999"
    if kind == "a file":
        folder.touch()
    else:
        folder.mkdir()
    if kind == "arrays alone":
        shutil.copy(run.newest_checkpoint() / "state.safetensors", folder)
    assert run.newest_checkpoint().name == "000000000160"
    resumed = policygrad.resume(run.path, total_steps=192, env=DUCK)
    assert resumed.summary["env_steps"] == 192


def test_fault_11_a_copy_under_another_number_is_refused(run):
    shutil.copytree(run.checkpoints()[1], run.path / "checkpoints" / "000000009999")
    with pytest.raises(RunError, match="the state after 32 steps: it was copied or renamed"):
        policygrad.resume(run.path, total_steps=20_000, env=DUCK)


# ----- a damaged checkpoint


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_fault_12_a_damaged_checkpoint_names_the_good_ones_and_how_to_use_them(run, name):
    newest = run.newest_checkpoint()
    damage(newest / name)
    with pytest.raises(RunError) as caught:
        policygrad.resume(run.path, total_steps=320, env=DUCK)
    message = str(caught.value)
    assert f"{name} is damaged" in message
    assert "\n" not in message
    good = run.checkpoints()[-2]
    assert f"go on from the newest of them with: policygrad resume {good}" in message
    resumed = policygrad.resume(good, total_steps=320, env=DUCK)
    assert resumed.summary["env_steps"] == 320
    assert [row["update"] for row in resumed.metrics] == list(range(1, 11))
    aside = run.path / "checkpoints" / f"set-aside-{newest.name}"
    assert aside.is_dir()
    straight = policygrad.train(DUCK, **LONG | {"total_steps": 320})
    assert bits(resumed) == bits(straight)


def test_fault_12_without_a_good_one_none_is_named(run):
    for checkpoint in run.checkpoints():
        damage(checkpoint / "state.safetensors")
    with pytest.raises(RunError) as caught:
        policygrad.resume(run.path, total_steps=320, env=DUCK)
    assert "can be read" not in str(caught.value)


def test_a_checkpoint_is_named_by_a_relative_path_too(run, monkeypatch):
    monkeypatch.chdir(run.path / "checkpoints")
    resumed = policygrad.resume("000000000064", total_steps=96, env=DUCK)
    assert resumed.summary["env_steps"] == 96
    assert int(run.newest_checkpoint().name) == 96


# ----- files that were signed anew


def signed(stem, **changes):
    """Write changes into a pair of files, with checksums that hold."""
    arrays, data = storage.load(stem)
    data = {k: v for k, v in data.items() if k not in ("sha256", "checksum", "format")}
    storage.save(stem, arrays, data | changes)


def space(**description):
    return json.dumps(description)


BOX = {"kind": "Box", "shape": [2], "dtype": "float32", "low": -1.0, "high": 1.0}
WRONG = {
    "a space of nothing": {"observation_space": space()},
    "no text": {"observation_space": 3},
    "deep nesting": {"observation_space": "[" * 10_000},
    "another kind": {"observation_space": space(kind="Graph")},
    "a huge Discrete": {"action_space": space(kind="Discrete", n=10**12, start=0)},
    "a Discrete beyond any number": {"action_space": space(kind="Discrete", n=10**400, start=0)},
    "a Discrete of nothing": {"action_space": space(kind="Discrete", n=0, start=0)},
    "a start that is a word": {"action_space": space(kind="Discrete", n=2, start="x")},
    "a huge Box": {"observation_space": space(**BOX | {"shape": [10**5, 10**5]})},
    "a negative shape": {"observation_space": space(**BOX | {"shape": [-2]})},
    "a dtype that is none": {"observation_space": space(**BOX | {"dtype": "float99"})},
    "bounds that are words": {"observation_space": space(**BOX | {"low": "x"})},
    "bounds of another shape": {"observation_space": space(**BOX | {"low": [1.0, 2.0, 3.0]})},
    "many flags": {"observation_space": space(kind="MultiBinary", n=10**10)},
    "many choices": {
        "observation_space": space(kind="MultiDiscrete", nvec=[10**9, 10**9], start=[0, 0])
    },
    "a Dict that is a list": {"observation_space": space(kind="Dict", spaces=[BOX])},
    "a network that is a word": {"network": "x"},
    "a network without settings": {"network": {}},
    "huge layers": {"network": {"hidden": [10**7, 10**7]}},
    "layers that are words": {"network": {"hidden": ["x"]}},
    "no layers at all": {"network": {"hidden": None}},
    "flags that are words": {"network": {"hidden": [8], "squash": [], "clipped": {}}},
}


@pytest.mark.parametrize("changes", list(WRONG.values()), ids=list(WRONG))
def test_fault_18_a_policy_that_was_signed_anew_ends_in_one_error(run, changes):
    signed(run.path / "policy", **changes)
    with pytest.raises(RunError, match=r"policy\.(json|safetensors)") as caught:
        policygrad.load(run.path)
    assert len(str(caught.value)) < 100_000


@pytest.mark.parametrize(
    "changes",
    [
        {"env_steps": "160"}, {"env_steps": -1}, {"env_steps": None}, {"env_steps": 10**400},
        {"env_steps": True}, {"env_steps": 7}, {"seconds": "x"}, {"seconds": None}, {"seconds": {}},
    ],
    ids=str,
)  # fmt: skip
def test_fault_18_a_checkpoint_that_was_signed_anew_ends_in_one_error(run, changes):
    signed(run.newest_checkpoint() / "state", **changes)
    with pytest.raises(RunError, match="state"):
        policygrad.resume(run.path, total_steps=320, env=DUCK)


def test_fault_18_arrays_of_another_kind_end_in_one_error(run):
    stem = run.newest_checkpoint() / "state"
    arrays, data = storage.load(stem)
    data = {k: v for k, v in data.items() if k not in ("sha256", "checksum", "format")}
    for name in arrays:
        for wrong in (np.zeros(0, np.int8), np.full((3, 5), np.nan, np.float64)):
            storage.save(stem, arrays | {name: wrong}, data)
            try:
                policygrad.resume(run.path, total_steps=192, env=DUCK)
            except RunError as error:
                assert "state" in str(error)
            else:
                pytest.fail(f"{name} was taken as {wrong.dtype}{wrong.shape}")
        if name.startswith("policy/"):
            break  # the others of the policy are alike


CONFIGS = {
    "env is a number": {"env": 3},
    "kwargs are a list": {"env_kwargs": []},
    "settings are a word": {"config": "x"},
    "a setting is a word": {"config": {"seed": "x"}},
    "a setting is nested": {"config": {"seed": [[1]]}},
    "an unknown setting": {"config": {"nonsense": 1}},
    "huge steps": {"config": {"total_steps": 10**400}},
    "objects are a number": {"objects": 3},
    "values are a list": {"values": []},
    "schedules are a number": {"schedules": 3},
}


@pytest.mark.parametrize("changes", list(CONFIGS.values()), ids=list(CONFIGS))
def test_fault_18_a_configuration_that_was_signed_anew_ends_in_one_error(run, changes):
    run.write_config({k: v for k, v in run.read_config().items() if k != "format"} | changes)
    with pytest.raises(UserError) as caught:
        policygrad.resume(run.path, total_steps=320, env=DUCK)
    assert "\n" not in str(caught.value)
    assert os.fspath(run.path) in str(caught.value)


# ----- what was changed as the run went on, and a process that died


class Died(BaseException):
    pass


def die(monkeypatch, path, **settings):
    """A run that goes on with other settings, and is killed before its next checkpoint."""

    def killed(row):
        raise Died

    killed.needs_state = False
    with monkeypatch.context() as patch:
        patch.setattr("policygrad.training.ending.keep_after", lambda *_: None)
        patch.setattr("policygrad.training.loop.Training.save", lambda self: None)
        with pytest.raises(Died):
            policygrad.resume(path, env=DUCK, on_update=killed, **settings)


@pytest.mark.parametrize("value", [3e-5, 1e-3])  # another, and the one that it began with
def test_a_step_size_that_was_changed_outlives_a_kill(run, monkeypatch, value):
    told = {"total_steps": 192, "step_size": value, "checkpoint_seconds": 1e6}
    die(monkeypatch, run.path, **told)
    assert run.read_config()["config"]["step_size"] == value
    rows = policygrad.resume(run.path, env=DUCK).metrics
    assert rows[-1]["step_size"] == pytest.approx(value)
    rows = policygrad.resume(run.path, total_steps=224, env=DUCK).metrics
    assert rows[-1]["step_size"] != pytest.approx(value)  # adapted, and not begun anew again


def test_a_step_size_that_was_changed_holds_from_an_older_checkpoint_on_once(run):
    policygrad.resume(run.path, total_steps=192, step_size=3e-5, env=DUCK)
    older = run.checkpoints()[2]
    rows = policygrad.resume(older, env=DUCK, total_steps=160).metrics
    assert rows[int(older.name) // 32]["step_size"] == pytest.approx(3e-5)
    assert run.read_config()["changes"][0]["env_steps"] == int(older.name)
    rows = policygrad.resume(run.path, env=DUCK, total_steps=192).metrics
    assert rows[-1]["step_size"] != pytest.approx(3e-5)


# ----- a resume that fails leaves the run as it was


def files_of(path):
    """Every file of a run, with its bytes."""
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


class BadBegin:
    def begin(self, run):
        raise UserError("no good")

    def __call__(self, run):
        pass


@pytest.mark.parametrize("at", ["newest", "older"])
@pytest.mark.parametrize("what", ["metrics", "evaluations", "callback", "best", "schedule"])
def test_a_resume_that_fails_writes_nothing(run, what, at):
    if what in ("metrics", "evaluations"):
        (run.path / f"{what}.jsonl").write_bytes(
            b"{no\n" + (run.path / "metrics.jsonl").read_bytes()
        )
    if what == "best":
        folder = run.path / "best" / "000000000032"
        folder.mkdir(parents=True)
        (folder / "policy.json").write_text("{")
    callbacks = {"callback": BadBegin(), "best": policygrad.callbacks.keep_best()}
    before = files_of(run.path)
    settings = {"total_steps": 192, "step_size": 3e-5, "on_update": callbacks.get(what)}
    if what == "schedule":
        settings["on_update"] = policygrad.callbacks.schedule("entropy_coefficient", lambda s: 0.0)
    path = run.path if at == "newest" else run.checkpoints()[1]
    with pytest.raises((RunError, UserError)):
        policygrad.resume(path, env=DUCK, **settings)
    assert files_of(run.path) == before


# ----- the best policy


def test_the_best_policy_of_a_branch_that_was_left_is_set_aside(run):
    for steps in (64, 128):
        run.save_best(steps, {}, {"metric": "mine", "value": float(steps)})
    policygrad.resume(run.checkpoints()[3], env=DUCK)  # after 96 steps
    assert run.read_best() is None
    assert [p.name for p in (run.path / "best").iterdir()] == ["set-aside-000000000128"]
    run.save_best(96, {}, {"metric": "mine", "value": 1.0})
    policygrad.resume(run.checkpoints()[4], env=DUCK)  # after 128 steps
    assert run.read_best()["value"] == 1.0


def test_a_branch_is_not_measured_against_the_best_policy_that_it_leaves(run):
    run.save_best(128, {}, {"metric": "mine", "value": 9.0})
    keep = [lambda seen: seen.log(mine=1.0), policygrad.callbacks.keep_best("mine")]
    policygrad.resume(run.checkpoints()[3], env=DUCK, on_update=keep)  # after 96 steps
    assert run.read_best()["value"] == 1.0
    policygrad.load(run.path / "best")


def test_a_best_policy_stays_until_another_of_the_same_steps_is_there(run, monkeypatch):
    run.save_best(64, {}, {"metric": "mine", "value": 1.0})
    moved = os.replace

    def look(a, b):
        if os.path.isdir(a):
            assert run.read_best() is not None
        moved(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", look)
        for value in (2.0, 3.0, 4.0):
            run.save_best(64, {}, {"metric": "mine", "value": value})
            assert run.read_best()["value"] == value
    assert len(list((run.path / "best").iterdir())) == 1
