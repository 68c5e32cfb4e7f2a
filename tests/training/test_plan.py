"""Settings from a file."""

import json
import shutil

import pytest

import policygrad
from policygrad.core.errors import RunError, UserError
from policygrad.training.plan import read_config
from tests.training.test_training import assert_bitwise
from tests.worlds import TINY, Chain

TOML = """
env = "CartPole-v1"
env-kwargs = {max_episode_steps = 20}
total-steps = 64
num_envs = 4
batch_steps = 32
hidden = [8]
critic_epochs = 1
step_size = 1e-4
"""
YAML = """
env: CartPole-v1
env_kwargs: {max_episode_steps: 20}
total-steps: 64
num_envs: 4
batch_steps: 32
hidden: [8]
critic_epochs: 1
step_size: 1e-4
"""
JSON = json.dumps(
    {"env": "CartPole-v1", "env_kwargs": {"max_episode_steps": 20},
     "config": {**TINY, "step_size": 1e-4}}
)  # fmt: skip


def trained_as(plan):
    return policygrad.train(plan.env, env_kwargs=plan.env_kwargs, config=plan.config)


def test_case_28_a_runs_file_repeats_the_run_bit_for_bit(tmp_path):
    kwargs = {"max_episode_steps": 20}
    run = policygrad.train("CartPole-v1", env_kwargs=kwargs, out=tmp_path / "a", **TINY)
    for place in (tmp_path / "a" / "config.json", tmp_path / "a", str(tmp_path / "a")):
        plan = read_config(place)
        assert (plan.env, plan.env_kwargs, plan.changed) == ("CartPole-v1", kwargs, ())
    assert_bitwise(trained_as(plan), run)


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", TOML), ("a.yaml", YAML), ("a.YML", YAML), ("a.json", JSON)]
)
def test_a_file_of_ones_own_is_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    plan = policygrad.read_config(tmp_path / name)
    assert (plan.env, plan.env_kwargs) == ("CartPole-v1", {"max_episode_steps": 20})
    assert plan.config == policygrad.TrainConfig(**TINY, step_size=1e-4)
    assert trained_as(plan).summary["env_steps"] == 64


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "learning-rate = 3e-4", "learning_rate: there is no such .* called step_size"),
        ("a.toml", "gamma = 0.9", "a.toml, gamma: there is no such .*here it is called discount"),
        ("a.toml", 'env_id = "CartPole-v1"', "env_id: there is no such .*; here it is called env"),
        ("a.json", '{"batch_size": 64}', "ppo_minibatches is the number of minibatches"),
        ("a.toml", "sed = 3", "a.toml, sed: there is no such setting; did you mean seed"),
        ("a.toml", "[ppo]\nclip_ratio = 0.1", "a.toml, ppo: there is no such setting"),
        ("a.toml", "seed = '3'", "a.toml, seed: --seed must be a whole number"),
        ("a.toml", "seed = -1", "a.toml, seed: --seed must be .*got -1"),
        ("a.toml", "discount = 2", "a.toml, discount: --discount must be"),
        ("a.toml", "discount = nan", "a.toml, discount: --discount must be"),
        ("a.toml", "algorithm = 'pppo'", "a.toml, algorithm: --algorithm: unknown value 'pppo'"),
        ("a.toml", "hidden = 'x'", "a.toml, hidden: "),
        ("a.toml", "scale_rewards = 'no'", "a.toml, scale_rewards: .*True or False"),
        ("a.toml", "env = 3", "a.toml, env: it must be text, got 3"),
        ("a.toml", "env_kwargs = 3", "a.toml, env_kwargs: it must hold arguments by name"),
        ("a.toml", "num-envs = 1\nnum_envs = 2", "a.toml, num_envs: it is given twice"),
        ("a.toml", "seed = 1\nseed = 2", "is no TOML"),
        ("a.toml", "seed =", "is no TOML"),
        ("a.toml", "batch_steps = 32\nbatch_episodes = 4", "a.toml, batch_steps, batch_episodes: "),
        ("a.yaml", "seed: 1\nseed: 2", "is no YAML: 'seed' is given twice"),
        ("a.yaml", "- 1", "not settings by name"),
        ("a.yaml", "seed: [", "is no YAML"),
        ("a.yaml", "seed: yes", "a.yaml, seed: --seed must be a whole number"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "is no YAML"),
        ("a.json", '{"seed": 1, "seed": 2}', "is no JSON: 'seed' is given twice"),
        ("a.json", "[" * 100_000, "is no JSON"),
        ("a.json", "\xff", "is no JSON|there is no"),
        ("a.json", "3", "holds 3, not settings by name"),
        ("a.txt", "seed = 1", "ends in .json, .toml, .yaml, .yml"),
        ("a.toml", "config = 3", "a.toml, config: it must hold settings by name"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named_with_the_file_and_the_key(tmp_path, name, text, words):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=words):
        read_config(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_config(tmp_path / "a.toml")
    with pytest.raises(UserError, match="ends in"):
        read_config(tmp_path)


def test_yaml_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    (tmp_path / "a.yaml").write_text("seed: 1")
    with pytest.raises(UserError, match=r"pip install 'policygrad\[yaml\]'"):
        read_config(tmp_path / "a.yaml")


def test_a_runs_file_that_was_edited_is_refused_with_the_remedy(trained, tmp_path):
    data = json.loads((trained.path / "config.json").read_text())
    data["config"]["seed"] = 5
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(RunError, match="remove its checksum and format"):
        read_config(tmp_path / "a.json")
    del data["checksum"], data["format"]
    data["changes"] = [{"env_steps": 32, "settings": {"discount": 0.9}}]  # it was resumed
    (tmp_path / "a.json").write_text(json.dumps(data))
    assert read_config(tmp_path / "a.json").config.seed == 5
    for name, told in (("objects", "was given gae as objects"), ("schedules", "schedules of gae")):
        (tmp_path / "a.json").write_text(json.dumps(data | {name: ["gae"]}))
        with pytest.raises(UserError, match=told):
            read_config(tmp_path / "a.json")


def test_case_28_a_run_with_parts_passed_as_objects_is_named(tmp_path):
    policygrad.train(Chain, out=tmp_path / "a", **TINY)
    with pytest.raises(UserError, match="was given env as objects, which no file holds"):
        read_config(tmp_path / "a")


def test_a_run_that_began_from_a_policy_is_repeated_from_it(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "first")
    run = policygrad.train("CartPole-v1", start=tmp_path / "first", out=tmp_path / "a", **TINY)
    plan = read_config(tmp_path / "a")
    plan.check_start()
    assert_bitwise(policygrad.train(plan.env, config=plan.config, start=plan.start), run)
    policygrad.resume(tmp_path / "first", total_steps=96)
    with pytest.raises(UserError, match="holds another one by now"):
        plan.check_start()
    policygrad.train("CartPole-v1", policy=trained.agent, out=tmp_path / "b", **TINY)
    with pytest.raises(UserError, match="a policy passed in Python"):
        read_config(tmp_path / "b").check_start()


def test_a_run_that_was_changed_says_so(tmp_path):
    policygrad.train("CartPole-v1", out=tmp_path / "a", **TINY)
    policygrad.resume(tmp_path / "a", total_steps=96, checkpoint_seconds=1)
    assert read_config(tmp_path / "a").changed == ()
    policygrad.resume(tmp_path / "a", total_steps=128, step_size=1e-4)
    assert read_config(tmp_path / "a").changed == ("step_size",)


def test_a_run_with_schedules_is_not_repeated_without_them(tmp_path):
    change = policygrad.callbacks.schedule("entropy_coefficient", lambda steps: 0.1)
    policygrad.train("CartPole-v1", out=tmp_path / "a", on_update=change, **TINY)
    with pytest.raises(UserError, match="with schedules of entropy_coefficient, which no file"):
        read_config(tmp_path / "a")
