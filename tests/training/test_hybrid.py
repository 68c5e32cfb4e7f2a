"""Dicts and Tuples as action spaces: the same contracts as for any other action."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import NonFiniteError
from policygrad.environments.catalogue import make
from policygrad.environments.gymnax import GymnaxEnvironment
from policygrad.gradients.scores import log_probs_of
from policygrad.maths.distributions import ClippedGaussian, Joint, TanhGaussian
from policygrad.policies import Agent, network_policy
from policygrad.rollout import make_collector
from policygrad.spaces import action_space_of, clipped_fraction
from tests.slow import params, slow
from tests.worlds import TINY

GEAR, MOVE = spaces.Discrete(3, start=1), spaces.Box(-2.0, 2.0, (2,))
MORE = spaces.Tuple([spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3])])
SPACES = {
    "Dict": spaces.Dict({"gear": GEAR, "move": MOVE, "more": MORE}),
    "Tuple": spaces.Tuple([GEAR, MOVE, MORE]),
}
every_kind = pytest.mark.parametrize("kind", list(SPACES))


class Hybrid(gymnasium.Env):
    """Rewards the gear and the move that are seen, and flags that are set."""

    observation_space = spaces.Dict({"x": spaces.Box(-1.0, 1.0, (2,)), "g": spaces.Discrete(3)})

    def __init__(self, kind="Dict"):
        self.action_space = SPACES[kind]

    def see(self):
        self.x = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.g = int(self.np_random.integers(3))
        return {"x": self.x, "g": self.g}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.see(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        if isinstance(action, tuple):
            action = dict(zip(("gear", "move", "more"), action, strict=True))
        near = 1 - 0.5 * np.abs(action["move"] - self.x).mean()
        flags, pair = action["more"]
        reward = (action["gear"] == self.g + 1) + near + 0.25 * flags.mean() + (pair[1] == 2) / 4
        self.time += 1
        return self.see(), float(reward), False, self.time >= 10, {}


def policy_of(kind, **kwargs):
    space = Hybrid.observation_space, SPACES[kind]
    return network_policy(jax.random.key(0), *space, hidden=(8,), **kwargs)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("Dict", "vanilla"),
        ("Tuple", "ppo"),
        pytest.param("Tuple", "natural", marks=slow),
        pytest.param("Dict", "trpo", marks=slow),
    ],
)
def test_case_23_every_algorithm_trains_in_hybrid_actions(kind, algorithm):
    run = policygrad.train(lambda: Hybrid(kind), algorithm=algorithm, **TINY)
    last = run.metrics[-1]
    assert all(np.isfinite(last[name]) for name in ("gradient_norm", "kl", "entropy"))
    assert last["gradient_norm"] > 0
    assert 0 <= last["clipped_fraction"] < 1
    assert jnp.shape(run.policy.log_std) == (2,)
    before = policygrad.network_policy(
        jax.random.key(0), Hybrid.observation_space, SPACES[kind], hidden=(8,)
    )
    assert not np.array_equal(run.policy.log_std, before.log_std)


@pytest.mark.slow
@pytest.mark.parametrize(
    "batch",
    [
        {"batch_episodes": 4},
        pytest.param({"tanh_gaussian": True}, marks=slow),
        pytest.param({"entropy_coefficient": 0.01}, marks=slow),
    ],
)
def test_hybrid_actions_with_other_settings(batch):
    settings = {
        k: v for k, v in TINY.items() if k != "batch_steps" or "batch_episodes" not in batch
    }
    run = policygrad.train(Hybrid, **settings, **batch)
    assert np.isfinite(run.metrics[-1]["gradient_norm"])


@pytest.mark.slow
def test_case_23_hybrid_actions_are_learned():
    """At random an episode gives about 8, and the best policy 25."""
    run = policygrad.train(Hybrid, algorithm="ppo", total_steps=40_960, num_envs=16, seed=1)
    assert run.metrics[-1]["return_mean"] > run.metrics[0]["return_mean"] + 5


@every_kind
def test_a_resumed_run_goes_on_exactly(kind, tmp_path):
    env = lambda: Hybrid(kind)  # noqa: E731
    whole = policygrad.train(env, out=tmp_path / "whole", **TINY)
    policygrad.train(env, out=tmp_path / "cut", **{**TINY, "total_steps": 32})
    resumed = policygrad.resume(tmp_path / "cut", total_steps=64, env=env)
    assert resumed.summary["resumed_exactly"]
    assert jax.tree.all(jax.tree.map(np.array_equal, whole.policy, resumed.policy))


@every_kind
def test_a_saved_policy_acts_alike_and_inside_the_space(kind, tmp_path):
    run = policygrad.train(lambda: Hybrid(kind), out=tmp_path / "run", **TINY)
    loaded = policygrad.load(tmp_path / "run")
    assert loaded.action_space == SPACES[kind]
    for i in range(5):
        observation = Hybrid.observation_space.sample()
        for key in (None, i):
            action = loaded.act(observation, key)
            assert SPACES[kind].contains(action)
            jax.tree.map(np.testing.assert_array_equal, action, run.agent.act(observation, key))


@pytest.mark.slow
def test_a_hybrid_run_is_evaluated_and_diagnosed(tmp_path):
    run = policygrad.train(Hybrid, out=tmp_path / "run", **TINY)
    returns = policygrad.evaluate(run, episodes=4).deterministic
    assert returns.length_mean == 10
    report = policygrad.diagnose(run.path, env=Hybrid, episodes=8)
    assert report is not None


@every_kind
@pytest.mark.parametrize("kwargs", [{}, {"clipped": True}, {"squash": True}])
def test_records_hold_the_log_probabilities_of_what_was_drawn(kind, kwargs):
    policy = policy_of(kind, **kwargs)
    lanes = make(lambda: Hybrid(kind), 2)
    collector = make_collector(lanes, policy, jax.random.key(0), num_envs=2, steps=12)
    record = collector.collect(policy, jax.random.key(1))
    collector.close()
    assert type(record.actions) is (dict if kind == "Dict" else tuple)
    np.testing.assert_allclose(log_probs_of(policy, record), record.log_probs, rtol=1e-5)
    parts = record.actions if kind == "Dict" else {"move": record.actions[1]}
    assert parts["move"].shape == (12, 2, 2)
    alone = clipped_fraction(action_space_of(MOVE), parts["move"], record.valid)
    found = clipped_fraction(action_space_of(SPACES[kind]), record.actions, record.valid)
    assert found == alone


@every_kind
def test_boxes_get_the_gaussian_that_was_asked_for(kind):
    observation = {"x": np.zeros(2, np.float32), "g": 0}
    for kwargs, expected in (
        ({"clipped": True}, ClippedGaussian),
        ({"squash": True}, TanhGaussian),
    ):
        joint = policy_of(kind, log_std=-0.7, **kwargs)(observation)
        assert isinstance(joint, Joint)
        box = joint.parts["move" if kind == "Dict" else 1]
        assert type(box) is expected
        np.testing.assert_allclose(box.log_std, -0.7)


def test_several_boxes_have_deviations_of_their_own():
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": GEAR, "c": spaces.Box(-1, 1, ())})
    policy = network_policy(jax.random.key(0), MOVE, space, hidden=(8,))
    assert policy.log_std.shape == (3,)
    assert action_space_of(space).parameters == 6
    joint = policy(np.zeros(2))
    assert (joint.parts["a"].log_std.shape, joint.parts["c"].log_std.shape) == ((2,), ())


def test_choices_alone_have_no_deviations():
    space = spaces.Tuple([GEAR, MORE])
    policy = network_policy(jax.random.key(0), MOVE, space, hidden=(8,))
    assert policy.log_std is None
    assert action_space_of(space).greatest_entropy == pytest.approx(np.log(3 * 4 * 6))


def test_a_part_without_anything_permitted_ends_training():
    class Stuck(Hybrid):
        observation_space = spaces.Dict(
            {"x": MOVE, "action_mask": spaces.Dict({"gear": spaces.MultiBinary(3)})}
        )

        def see(self):
            super().see()
            flags = np.int8([0, 0, 0] if self.time == 4 else [0, 1, 1])
            return {"x": self.x, "action_mask": {"gear": flags}}

        def step(self, action):
            assert self.time == 4 or action["gear"] > 1
            return super().step(action)

    with pytest.raises(NonFiniteError, match="permits no action"):
        policygrad.train(Stuck, **TINY)


# ----- compiled


class Aim:
    """A functional environment, as gymnax has them, whose action is a dict."""

    default_params: Any = ()

    def reset(self, key, params):
        x = jax.random.uniform(key, (2,), minval=-1.0)
        return x, (x, jnp.int32(0))

    def step(self, key, state, action, params):
        x, time = state
        reward = -jnp.abs(action["move"] - x).mean() + (action["gear"] == 1 + (x[0] > 0))
        following = jax.random.uniform(key, (2,), minval=-1.0)
        over = time + 1 >= 8
        info = {"final_observation": following}
        return following, (following, time + 1), reward, over, jnp.bool_(False), info

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (2,))

    def action_space(self, params):
        return spaces.Dict({"gear": GEAR, "move": MOVE})


@pytest.mark.parametrize("algorithm", params(["vanilla", "natural"], {"vanilla"}))
def test_compiled_environments_take_hybrid_actions(algorithm):
    run = policygrad.train(GymnaxEnvironment(Aim()), algorithm=algorithm, **TINY)
    assert run.metrics[-1]["gradient_norm"] > 0
    assert run.agent.action_space.contains(run.agent.act(np.zeros(2, np.float32), 0))


@pytest.mark.slow
def test_seeds_are_trained_together_in_hybrid_actions():
    environment = GymnaxEnvironment(Aim())
    runs = policygrad.train_seeds(environment, seeds=[0, 1], **TINY).runs
    alone = policygrad.train(environment, seed=1, processors=1, **TINY)
    both = jax.tree.leaves(runs[1].policy), jax.tree.leaves(alone.policy)
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_agent_of_hybrid_actions_is_made_of_values_of_numpy():
    agent = Agent(policy_of("Dict"), Hybrid.observation_space, SPACES["Dict"])
    action = agent.act({"x": [0, 0], "g": 1})
    assert all(isinstance(x, (np.ndarray, np.generic)) for x in jax.tree.leaves(action))
