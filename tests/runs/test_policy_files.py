import shutil

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import RunError
from policygrad.policies.normaliser import update_statistics
from policygrad.policies.space_policy import network_policy
from policygrad.runs import RunDirectory, storage
from policygrad.runs.policy_files import load, policy_to_files
from tests.policies.test_policies import ACTIONS, BOX, Custom
from tests.spaces.test_spaces import NESTED
from tests.worlds import TINY, Chain

KEY = jax.random.key(0)


def saved(tmp_path, policy, observations, actions, name="policy"):
    arrays, data = policy_to_files(policy, observations, actions)
    storage.save(tmp_path / name, arrays, data)
    return tmp_path / f"{name}.safetensors"


def seen(policy, space):
    """The policy after its normaliser saw something."""
    space.seed(1)
    rows = [jax.tree.map(np.asarray, space.sample()) for _ in range(6)]
    batch = jax.tree.map(lambda *x: np.stack(x)[:, None], *rows)
    return update_statistics(policy, batch, jnp.ones((6, 1), bool))


@pytest.mark.parametrize(("space", "_kind"), ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize("observations", [BOX, NESTED], ids=["box", "nested"])
def test_loaded_policy_acts_like_the_saved_one(tmp_path, observations, space, _kind):
    policy = seen(network_policy(KEY, observations, space, hidden=(8, 4)), observations)
    agent = load(saved(tmp_path, policy, observations, space))
    assert jax.tree.structure(agent.policy) == jax.tree.structure(policy)
    jax.tree.map(np.testing.assert_array_equal, agent.policy, policy)
    assert (agent.observation_space, agent.action_space) == (observations, space)
    observation = observations.sample()
    for ours, theirs in zip(
        jax.tree.leaves(agent(observation)), jax.tree.leaves(policy(observation)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [{"squash": True}, {"clipped": True}, {"normalise_observations": False}, {"hidden": ()}],
    ids=str,
)
def test_structure_is_saved_with_the_policy(tmp_path, settings):
    space = spaces.Box(-1.0, 1.0, (2,))
    policy = seen(network_policy(KEY, BOX, space, **({"hidden": (8,)} | settings)), BOX)
    agent = load(saved(tmp_path, policy, BOX, space))
    assert jax.tree.structure(agent.policy) == jax.tree.structure(policy)


def test_normaliser_is_part_of_what_is_loaded(trained):
    agent = load(trained.path)
    statistics = agent.policy.normaliser.statistics.value
    assert float(statistics.rows_seen) == trained.summary["env_steps"]
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=0)
    raw, normalised = agent(observation), agent.policy.network(agent.policy.normaliser(observation))
    np.testing.assert_allclose(raw.logits, normalised, rtol=1e-5, atol=1e-7)
    z = (observation - statistics.mean) / np.sqrt(statistics.variance + 1e-8)
    np.testing.assert_allclose(agent.policy.normaliser(observation), np.clip(z, -10, 10), rtol=1e-4)
    assert not np.allclose(agent.policy.network(observation), raw.logits)


def test_run_is_loaded_from_its_directory_its_checkpoint_and_its_file(trained):
    observation = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    places = [
        trained.path,
        str(trained.path),
        RunDirectory(trained.path).newest_checkpoint(),
        trained.path / "policy.safetensors",
        trained.path / "policy.json",
    ]
    for place in places:
        agent = policygrad.load(place)
        np.testing.assert_array_equal(agent(observation).logits, trained.agent(observation).logits)
        assert agent.act(observation, KEY) == trained.agent.act(observation, KEY)


def test_interrupted_run_is_loaded_from_its_newest_checkpoint(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run")
    for file in (tmp_path / "run").glob("policy.*"):
        file.unlink()
    agent = load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, agent.policy, trained.policy)


def test_policy_file_whose_name_has_dots(tmp_path):
    """Its own file, and not another one that happens to lie beside it."""
    for seed, name in enumerate(("policy", "policy.v2")):
        policy = network_policy(jax.random.key(seed), BOX, spaces.Discrete(2), hidden=(8,))
        path = saved(tmp_path, policy, BOX, spaces.Discrete(2))
        if name != "policy":
            path = path.rename(tmp_path / f"{name}.safetensors")
            (tmp_path / "policy.json").rename(tmp_path / f"{name}.json")
            other = network_policy(jax.random.key(9), BOX, spaces.Discrete(2), hidden=(8,))
            saved(tmp_path, other, BOX, spaces.Discrete(2))
        jax.tree.map(np.testing.assert_array_equal, load(path).policy, policy)


def test_custom_policy_needs_one_of_its_class(tmp_path):
    run = policygrad.train(Chain, policy=Custom(KEY), out=tmp_path / "a", **TINY)
    with pytest.raises(RunError, match=r"class tests\.policies\.test_policies\.Custom.*pass like="):
        load(tmp_path / "a")
    agent = load(tmp_path / "a", like=Custom(jax.random.key(5)))
    observation = np.array([0.5, 1.0], np.float32)
    np.testing.assert_allclose(
        agent(observation).logits, run.agent(observation).logits, rtol=1e-6, atol=1e-7
    )
    wrong = eqx.tree_at(lambda p: p.network.layers[0].bias, Custom(KEY), jnp.zeros(5))
    with pytest.raises(RunError, match="another network"):
        load(tmp_path / "a", like=wrong)
    with pytest.raises(RunError):
        load(tmp_path / "a", like=network_policy(KEY, BOX, spaces.Discrete(2)))


def test_json_that_describes_no_policy(tmp_path):
    storage.save(tmp_path / "policy", {"policy/x": np.zeros(2)}, {"observation_space": "{}"})
    with pytest.raises(RunError, match="describes no policy"):
        load(tmp_path / "policy.json")


@pytest.mark.parametrize(
    "network", [{"hidden": [8], "depth": 3}, {"hidden": "x"}, {"hidden": [0]}, 3], ids=str
)
def test_json_of_another_network_is_refused(tmp_path, network):
    policy = network_policy(KEY, BOX, spaces.Discrete(2), hidden=(8,))
    arrays, data = policy_to_files(policy, BOX, spaces.Discrete(2))
    storage.save(tmp_path / "policy", arrays, data | {"network": network})
    with pytest.raises(RunError):
        load(tmp_path / "policy.json")


@pytest.mark.parametrize("earlier", [False, True])
def test_a_policy_of_an_earlier_version_keeps_its_least_spread(tmp_path, earlier):
    """Its weights were trained on small signals as that version read them."""
    policy = network_policy(KEY, BOX, spaces.Discrete(2), hidden=(8,))
    rows = 1e-6 * np.random.default_rng(0).normal(size=(100, 1, 2)).astype(np.float32)
    policy = update_statistics(policy, rows, jnp.ones((100, 1), bool))
    arrays, data = policy_to_files(policy, BOX, spaces.Discrete(2))
    if earlier:
        del data["small_spreads"]
    storage.save(tmp_path / "policy", arrays, data)
    normalised = load(tmp_path / "policy.json").policy.normaliser(rows[0, 0])
    statistics = policy.normaliser.statistics.value
    least = 1e-8 if earlier else 0
    expected = (rows[0, 0] - statistics.mean) / np.sqrt(statistics.variance + least)
    np.testing.assert_allclose(normalised, expected, rtol=1e-4)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_policy_keeps_the_bound_of_its_observations(tmp_path, earlier):
    policy = network_policy(KEY, BOX, spaces.Discrete(2), hidden=(8,), clip_observations=2.5)
    arrays, data = policy_to_files(policy, BOX, spaces.Discrete(2))
    if earlier:
        del data["network"]["clip_observations"]
    storage.save(tmp_path / "policy", arrays, data)
    normalised = load(tmp_path / "policy.json").policy.normaliser(jnp.array([99.0, -99.0]))
    np.testing.assert_array_equal(normalised, np.array([1, -1]) * (10 if earlier else 2.5))


@pytest.mark.parametrize("bound", ["2.5", 0.0, -1.0, None])
def test_a_bound_of_observations_that_is_no_positive_number_is_refused(tmp_path, bound):
    policy = network_policy(KEY, BOX, spaces.Discrete(2), hidden=(8,))
    arrays, data = policy_to_files(policy, BOX, spaces.Discrete(2))
    data["network"]["clip_observations"] = bound
    storage.save(tmp_path / "policy", arrays, data)
    with pytest.raises(RunError, match=r"policy\.json describes no policy"):
        load(tmp_path / "policy.json")


def test_a_mark_of_spreads_that_is_no_flag_is_refused(tmp_path):
    policy = network_policy(KEY, BOX, spaces.Discrete(2), hidden=(8,))
    arrays, data = policy_to_files(policy, BOX, spaces.Discrete(2))
    storage.save(tmp_path / "policy", arrays, data | {"small_spreads": "yes"})
    with pytest.raises(RunError, match="small_spreads"):
        load(tmp_path / "policy.json")
