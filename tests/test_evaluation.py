import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import UserError
from policygrad.maths.distributions import Categorical
from policygrad.policies.agent import Agent
from tests.worlds import TINY, Chain, DuckChain, DuckEndless, Echo, Endless, Lottery


def always(action, actions=2, observations=None):
    """An agent that takes one action greedily, and any when it samples."""
    logits = jnp.zeros(actions).at[action].set(1.0)
    space = Chain().observation_space if observations is None else observations
    return Agent(lambda observation: Categorical(logits), space, spaces.Discrete(actions))


@pytest.mark.parametrize("env", [Chain, DuckChain()], ids=["host", "compiled"])
def test_returns_by_hand(env):
    result = policygrad.evaluate(always(1), env, episodes=7, num_envs=3)
    # x: 1, 1.5, 1.75; rewards: x + t/4
    assert result.deterministic.returns == [4.25 + 0.75] * 7
    assert result.deterministic.mean == 5.0
    assert result.deterministic.ci95 == (5.0, 5.0)
    assert result.deterministic.length_mean == 3
    assert len(set(result.stochastic.returns)) > 1


def test_host_and_compiled_agree_on_the_greedy_policy():
    ours, theirs = (policygrad.evaluate(always(0), e, episodes=4) for e in (Chain, DuckChain()))
    assert ours.deterministic == theirs.deterministic


@pytest.mark.parametrize("env", [Endless, DuckEndless()], ids=["host", "compiled"])
def test_endless_episodes_are_capped(env):
    space = (env() if isinstance(env, type) else env).observation_space
    result = policygrad.evaluate(
        always(1, observations=space), env, episodes=5, num_envs=2, max_episode_steps=30
    )
    for returns in (result.deterministic, result.stochastic):
        assert returns.length_mean == 30
        assert returns.unfinished == 5
        assert np.isfinite(returns.mean)


class Traced(DuckChain):
    """Counts how often its step is traced for a program."""

    traced = 0

    def step(self, key, state, action, params):
        self.traced += 1
        return super().step(key, state, action, params)


def test_second_evaluation_compiles_nothing():
    env, agent = Traced(), always(1)
    first = policygrad.evaluate(agent, env, episodes=4)
    traced, env.traced = env.traced, 0
    assert traced > 0
    assert policygrad.evaluate(agent, env, episodes=4) == first
    assert env.traced == 0


def test_evaluation_has_no_bias_towards_short_episodes():
    """Odds of a false alarm: z = 4.5, one in 150,000; the seed is fixed."""
    agent = always(0, observations=Lottery.observation_space)
    result = policygrad.evaluate(agent, Lottery, episodes=900, num_envs=8).stochastic
    assert result.length_mean == result.mean
    assert abs(result.mean - 5) < 4.5 * 4 / np.sqrt(900)


def test_same_seed_same_returns_whatever_was_trained_between(trained):
    one = policygrad.evaluate(trained, episodes=6, seed=2)
    two = policygrad.evaluate(trained.path, episodes=6, seed=2)
    assert one == two
    assert one != policygrad.evaluate(trained, episodes=6, seed=3)
    json.dumps(one.to_json())


def test_arguments_of_the_environment_are_remembered(tmp_path):
    path = tmp_path / "a"
    run = policygrad.train("Pendulum-v1", env_kwargs={"max_episode_steps": 9}, out=path, **TINY)
    assert policygrad.evaluate(path, episodes=2).stochastic.length_mean == 9
    assert policygrad.evaluate(run, episodes=2).stochastic.length_mean == 9


def test_longer_time_limit_is_not_cut_at_the_registered_one(tmp_path):
    path = tmp_path / "a"
    policygrad.train("Pendulum-v1", env_kwargs={"max_episode_steps": 230}, out=path, **TINY)
    result = policygrad.evaluate(path, episodes=2).stochastic
    assert (result.length_mean, result.unfinished) == (230, 0)


def test_run_of_an_object_is_evaluated_where_it_was_trained(tmp_path):
    run = policygrad.train(Chain, out=tmp_path / "a", **TINY)
    assert policygrad.evaluate(run, episodes=2).stochastic.length_mean == 3
    with pytest.raises(UserError, match="no environment to evaluate in"):
        policygrad.evaluate(tmp_path / "a", episodes=2)
    assert policygrad.evaluate(tmp_path / "a", Chain, episodes=2).stochastic.length_mean == 3


@pytest.mark.parametrize(
    ("observations", "actions"),
    [
        (spaces.Box(-np.inf, np.inf, (3,)), spaces.Discrete(2)),
        (spaces.Discrete(2), spaces.Discrete(2)),
        (spaces.Dict({"a": spaces.Discrete(2)}), spaces.Discrete(2)),
        (Chain().observation_space, spaces.Discrete(3)),
        (Chain().observation_space, spaces.Box(-1, 1, (2,))),
    ],
    ids=["shape", "kind", "dict", "number of actions", "kind of action"],
)
def test_environment_with_other_spaces_is_refused(observations, actions):
    with pytest.raises(UserError, match="space is"):
        policygrad.evaluate(always(0), lambda: Echo(observations, actions), episodes=1)


def test_environment_with_other_entries_of_a_dict_is_refused():
    ours, theirs = (spaces.Dict({k: spaces.Box(-1, 1, (1,))}) for k in "ab")
    run = policygrad.train(lambda: Echo(ours, spaces.Discrete(2)), **TINY)
    with pytest.raises(UserError, match="observation space is"):
        policygrad.evaluate(run, lambda: Echo(theirs, spaces.Discrete(2)), episodes=1)


def test_numbers_out_of_range():
    for name in ("episodes", "num_envs", "max_episode_steps"):
        with pytest.raises(UserError, match=f"{name.replace('_', '-')} must be at least 1, got 0"):
            policygrad.evaluate(always(0), Chain, **{name: 0})


def test_sampled_actions_follow_the_distribution():
    """Rewards that tell the action; the odds of a false alarm are one in 150,000 (z = 4.5)."""
    space = spaces.Box(-1, 1, (2,))
    agent = always(1, observations=space)
    result = policygrad.evaluate(agent, lambda: Echo(space, spaces.Discrete(2)), episodes=300)
    p = float(jax.nn.sigmoid(1.0))
    assert abs(result.stochastic.mean - 5 * p) < 4.5 * np.sqrt(5 * p * (1 - p) / 300)
    assert result.deterministic.mean == 5
