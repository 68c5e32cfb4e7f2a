"""Training with episodes in groups: the estimators by name, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad import estimators
from policygrad.core.errors import UserError
from policygrad.core.trajectories import in_groups
from policygrad.gradients import groups
from policygrad.gradients.checking import checked
from policygrad.gradients.groups import Groups
from policygrad.training.built_in import ESTIMATORS, GroupReturns
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.resolve import resolve
from tests.records import random_episodes
from tests.rollout.test_groups import IN_GROUPS, Start

NAMES = [name for name, settings in ESTIMATORS.items() if settings is GroupReturns]
SIZE = 2


def record_in_groups():
    record = random_episodes(3)
    count = record.rewards.shape[1] // SIZE * SIZE
    record = jax.tree.map(lambda x: x[:, :count], record)
    object.__setattr__(record, "group_size", SIZE)
    return record


@pytest.mark.parametrize("name", NAMES)
def test_every_step_has_the_weight_of_its_episode_in_its_group(name):
    with jax.enable_x64(True):
        record = record_in_groups()
        estimator = estimators.in_groups(groups.ESTIMATORS[name](), discount=0.9)
        found = estimator.weights(estimator.init(jax.random.key(0), None), record)
    rewards, valid = np.asarray(record.rewards, float), np.asarray(record.valid)
    returns = [
        sum(0.9**t * rewards[t, n] for t in range(len(rewards)) if valid[t, n])
        for n in range(rewards.shape[1])
    ]
    lengths = valid.sum(axis=0).astype(float)
    given = Groups(in_groups(np.array(returns), SIZE), in_groups(lengths, SIZE))
    expected = groups.ESTIMATORS[name]().weights(given).ravel()
    np.testing.assert_allclose(found.psi, np.where(valid, expected, 0.0), rtol=1e-6, atol=1e-9)
    if name == "rloo":  # written out
        np.testing.assert_allclose(found.baseline[0, :2], [returns[1], returns[0]], rtol=1e-6)


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
            "--critic-epochs is read by",
        ),
    }.values(),
)  # fmt: skip
def test_what_an_estimator_in_groups_cannot_use_is_one_line(settings, message):
    with pytest.raises(UserError, match=message) as raised:
        resolved(**settings)
    assert "\n" not in str(raised.value)


def test_one_group_is_too_few_for_shrinkage():
    settings = IN_GROUPS | {"batch_episodes": 3, "baseline": None, "estimator": "shrinkage"}
    with pytest.raises(UserError, match="at least 2 groups a batch, got 1; --batch-episodes is 3"):
        policygrad.train(Start, out=None, **settings)


@pytest.mark.parametrize("make", [groups.remax, groups.value])
def test_what_no_record_holds_is_refused(make):
    with pytest.raises(ValueError, match="which is not collected; choose another group estimator"):
        estimators.in_groups(make())


def test_a_group_estimator_has_no_baseline_beside_it():
    found = estimators.Estimator(estimators.LambdaReturn(), None, None, 1.0, group=groups.rloo())
    with pytest.raises(ValueError, match=r"make it by estimators.in_groups\(group\)"):
        checked(found)


def test_episodes_without_groups_are_refused_by_the_estimator():
    estimator = estimators.in_groups(groups.rloo())
    with pytest.raises(ValueError, match="at least 2 episodes a group, got 1"):
        estimator.weights(estimator.init(jax.random.key(0), None), random_episodes(3))


def test_a_run_with_rloo_trains():
    run = policygrad.train(Start, out=None, **IN_GROUPS | {"estimator": "rloo", "baseline": None})
    assert run.config.estimator == "rloo"
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(run.agent.policy))
