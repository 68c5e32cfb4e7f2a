"""Training with episodes in groups: the estimators by name, and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad import estimators
from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.trajectories import Greedy, in_groups
from policygrad.gradients import groups
from policygrad.gradients.checking import checked
from policygrad.gradients.groups import Groups
from policygrad.rollout.collectors import Collector
from policygrad.training.built_in import ESTIMATORS, GroupReturns
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.resolve import resolve
from policygrad.training.soundness import check_finite, is_sound
from tests.records import random_episodes
from tests.rollout.test_groups import IN_GROUPS, PURE, Start

NAMES = [name for name, settings in ESTIMATORS.items() if settings is GroupReturns]
SIZE = 2


def record_in_groups():
    record = random_episodes(3)
    count = record.rewards.shape[1] // SIZE * SIZE
    record = jax.tree.map(lambda x: x[:, :count], record)
    alike = [n // SIZE * SIZE for n in range(count)]  # one greedy episode a group
    record = replace(record, greedy=Greedy(record.rewards[:, alike] + 1, record.valid[:, alike]))
    return replace(record, group_size=SIZE)


def test_every_step_has_the_weight_of_its_episode_in_its_group():
    with jax.enable_x64(True):
        record = record_in_groups()
        found = {}
        for name in NAMES:
            estimator = estimators.in_groups(groups.ESTIMATORS[name](), discount=0.9)
            found[name] = estimator.weights(estimator.init(jax.random.key(0), None), record)
    rewards, valid = np.asarray(record.rewards, float), np.asarray(record.valid)
    returns = [
        sum(0.9**t * rewards[t, n] for t in range(len(rewards)) if valid[t, n])
        for n in range(rewards.shape[1])
    ]
    lengths = valid.sum(axis=0).astype(float)
    greedy = 0.9 ** np.arange(len(rewards)) @ np.asarray(record.greedy.rewards, float)[:, ::SIZE]
    given = Groups(in_groups(np.array(returns), SIZE), in_groups(lengths, SIZE), greedy)
    for name in NAMES:
        psi = np.where(valid, groups.ESTIMATORS[name]().weights(given).ravel(), 0.0)
        np.testing.assert_allclose(found[name].psi, psi, rtol=1e-6, atol=1e-9, err_msg=name)
    # written out
    baseline = found["rloo"].baseline[0, :2]
    np.testing.assert_allclose(baseline, [returns[1], returns[0]], rtol=1e-6)
    np.testing.assert_allclose(found["remax"].baseline[0], greedy.repeat(SIZE), rtol=1e-6)


def resolved(**settings):
    return resolve(TrainConfig(**settings), Given())[0].config


@pytest.mark.parametrize("algorithm", ["vanilla", "natural", "trpo", "ppo"])
def test_returns_in_groups_are_not_discounted_unless_asked_for(algorithm):
    common = {"algorithm": algorithm, "estimator": "rloo", "batch_episodes": 8, "group_size": 4}
    found = resolved(**common)
    assert (found.discount, found.baseline, found.normalise_advantages) == (1.0, None, None)
    assert resolved(**common, discount=0.9).discount == 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    {
        "no groups": ({"estimator": "grpo", "batch_episodes": 8}, "add --batch-episodes N --gr"),
        "segments": ({"estimator": "rloo"}, "add --batch-episodes N --group-size K"),
        "greedy segments": (
            {"estimator": "remax"}, "remax needs whole episodes, and segments of 2048 steps are",
        ),
        "a baseline": (
            {"estimator": "rloo", "batch_episodes": 8, "group_size": 4, "baseline": "constant"},
            "--estimator rloo has a baseline of its own, got --baseline constant",
        ),
        "normalised twice": (
            {
                "estimator": "grpo", "batch_episodes": 8, "group_size": 4,
                "normalise_advantages": True,
            },
            "--normalise-advantages is read by",
        ),
        "a critic's setting": (
            {"estimator": "grpo", "batch_episodes": 8, "group_size": 4, "critic_epochs": 3},
            "--critic-epochs is read by .* but not by --estimator grpo, which has no other",
        ),
    }.values(),
)  # fmt: skip
def test_what_an_estimator_in_groups_cannot_use_is_one_line(settings, message):
    with pytest.raises(UserError, match=message) as raised:
        resolved(**settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["group_mean", "dr_grpo", "opo", "reinforce_plus_plus_baseline"])
def test_an_episode_less_its_own_mean_is_refused(name):
    with pytest.raises(ValueError, match="at least 2 episodes a group, got 1"):
        getattr(groups, name)().check_size(16, 1)


def test_a_batch_that_adapts_is_refused_beside_groups_that_were_passed_as_a_value():
    settings = IN_GROUPS | {"batch_episodes": "adaptive", "baseline": None, "group_size": 1}
    estimator = estimators.in_groups(groups.reinforce_plus_plus())
    with pytest.raises(UserError, match="--batch-episodes adaptive weighs episodes that start ind"):
        policygrad.train(Start, out=None, **settings | {"estimator": estimator})


def test_one_group_is_too_few_for_shrinkage():
    settings = IN_GROUPS | {"batch_episodes": 3, "baseline": None, "estimator": "shrinkage"}
    with pytest.raises(UserError, match="at least 2 groups a batch, got 1; --batch-episodes is 3"):
        policygrad.train(Start, out=None, **settings)


def test_what_no_record_holds_is_refused():
    with pytest.raises(ValueError, match="which is not collected; choose another group estimator"):
        estimators.in_groups(groups.value())
    remax = estimators.in_groups(groups.remax())
    with pytest.raises(ValueError, match="the record holds none; collect with with_greedy=True"):
        remax.weights(remax.init(jax.random.key(0), None), replace(record_in_groups(), greedy=None))


def test_a_group_estimator_has_no_baseline_beside_it():
    found = estimators.Estimator(estimators.LambdaReturn(), None, None, 1.0, group=groups.rloo())
    with pytest.raises(ValueError, match=r"make it by estimators.in_groups\(group\)"):
        checked(found)


def test_episodes_without_groups_are_refused_by_the_estimator():
    estimator = estimators.in_groups(groups.rloo())
    with pytest.raises(ValueError, match="at least 2 episodes a group, got 1"):
        estimator.weights(estimator.init(jax.random.key(0), None), random_episodes(3))


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("env", [Start, PURE], ids=["host", "compiled"])
def test_steps_of_greedy_episodes_count(env, size):
    own = {"estimator": "remax", "baseline": None, "group_size": size, "total_steps": 1}
    run = policygrad.train(env, out=None, **IN_GROUPS | own)
    (row,) = run.metrics
    assert row["episodes"] == 6
    assert row["greedy_steps"] == row["greedy_return_mean"] * 6 // size  # 1 for every step
    assert row["env_steps"] == row["length_mean"] * 6 + row["greedy_steps"]
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(run.agent.policy))


def test_a_run_without_greedy_episodes_tells_nothing_of_them():
    run = policygrad.train(PURE, out=None, **IN_GROUPS | {"total_steps": 1})
    assert not [name for name in run.metrics[0] if "greedy" in name]


def test_a_greedy_reward_that_is_not_finite_ends_the_run():
    record = record_in_groups()
    rewards = record.greedy.rewards.at[1, 2:4].set(jnp.nan)
    bad = replace(record, greedy=record.greedy._replace(rewards=rewards))
    assert is_sound(record)
    assert not is_sound(bad)
    with pytest.raises(NonFiniteError, match=r"at step 2 of the greedy episode from the start of"):
        check_finite(bad, 0, 0)


def test_a_collector_of_ones_own_must_return_greedy_episodes():
    class Without(Collector):
        whole_episodes = True

        def __init__(self, source, policy, key, config):
            self.of = source.episodes(policy, key, config.columns, 9, group_size=3)

        def collect(self, policy, key, episodes=None):
            return self.of.collect(policy, key, episodes)

    settings = IN_GROUPS | {"estimator": "remax", "baseline": None}
    with pytest.raises(UserError, match="the collector returned no greedy episodes"):
        policygrad.train(PURE, out=None, collector=Without, **settings)


def test_a_run_with_rloo_trains():
    run = policygrad.train(Start, out=None, **IN_GROUPS | {"estimator": "rloo", "baseline": None})
    assert run.config.estimator == "rloo"
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(run.agent.policy))
