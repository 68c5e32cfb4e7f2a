"""The flags of workers elsewhere: what is refused before anything is started."""

import json

import pytest

import policygrad
from policygrad import cli
from tests.worlds import TINY, TINY_FLAGS, Chain

OBSERVE = Chain.observe

REFUSED = [
    (["--workers", "0"], "--workers must be a whole number at least 1, got 0"),
    (["--workers", "-2"], "--workers must be a whole number at least 1, got -2"),
    (["--ray", "10.0.0.1:6379"], "--ray 10.0.0.1:6379 is for --workers only; add --workers N"),
    (["--worker-timeout", "5"], "--worker-timeout 5.0 is for --workers only; add --workers N"),
    (["--cpus-per-worker", "0.5"], "--cpus-per-worker 0.5 is for --workers only"),
    (["--workers", "2", "--worker-timeout", "0"], "--worker-timeout must be from 0.001 to"),
    (["--workers", "2", "--worker-timeout", "nan"], "--worker-timeout must be from 0.001 to"),
    (["--workers", "2", "--cpus-per-worker", "0"], "--cpus-per-worker must be from 0.001 to"),
    (["--workers", "2", "--cpus-per-worker", "inf"], "--cpus-per-worker must be from 0.001 to"),
    (["--workers", "2", "--processes"], "--processes steps all environments together"),
    (["--workers", "2", "--seeds", "0,1", "--jobs", "2"], "--jobs 2 and --workers 2 exclude each"),
    (["--workers", "2", "--lanes-per-block", "3"], "--lanes-per-block 3 must divide --num-envs"),
    (["--workers", "17"], "--workers 17 are more than the 8 blocks"),
    (["--workers", "2", "--ray", "head"], "--ray head (or RAY_ADDRESS) is no address of a Ray"),
    (["--workers", "2", "--ray", ""], "is no address of a Ray cluster"),
    (["--seeds", "0,1", "--workers", "2", "--ray", "head"], "--ray head (or RAY_ADDRESS) is no a"),
]


@pytest.mark.parametrize(("flags", "words"), REFUSED)
def test_flags_of_workers_are_refused(flags, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "gymnasium/CartPole-v1", *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("policygrad: ")
    assert words in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("**/config.json"))


def test_a_run_without_blocks_is_not_resumed_on_workers(tmp_path, capsys):
    policygrad.train("gymnasium/CartPole-v1", out=tmp_path / "a", **TINY)
    given = ["resume", str(tmp_path / "a"), "--total-steps", "128", "--workers", "2"]
    assert cli.run(given) == 2
    said = capsys.readouterr().err
    assert "was not collected in blocks of lanes" in said
    assert "resume it without workers" in said
    assert cli.run(given[:-2]) == 0


def test_seeds_do_not_take_workers_for_their_lanes():
    with pytest.raises(policygrad.errors.UserError, match=r"jobs=policygrad.remote"):
        policygrad.train_seeds(Chain, [0, 1], collector=policygrad.remote(2), **TINY)


def test_what_environments_print_does_not_stand_in_the_json(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(Chain, "observe", lambda self: print("seen") or OBSERVE(self))
    given = ["train", "tests.worlds:Chain-v0", *map(str, TINY_FLAGS), "--json", "--out"]
    for more in ([], ["--lanes-per-block", "2"]):
        assert cli.run([*given, str(tmp_path / f"{len(more)}"), *more]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["updates"] == 2
        assert "seen" in said.err
    assert cli.run(["resume", str(tmp_path / "0"), "--total-steps", "96", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["updates"] == 3
