"""What a named estimator reads of the other settings: its critic, its time limit, its batches."""

from dataclasses import replace
from typing import Any

from policygrad.core.errors import UserError
from policygrad.gradients import groups
from policygrad.gradients.weights import Estimator
from policygrad.training import built_in
from policygrad.training.built_in import (
    BASELINES,
    ESTIMATORS,
    GroupReturns,
    NoSettings,
    ReturnsToGo,
)
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given


def in_groups(config: TrainConfig) -> bool:
    """Whether the named estimator weighs episodes that start in groups."""
    return ESTIMATORS[config.estimator or "gae"] is GroupReturns


def starts_alike(config: TrainConfig, given: Given) -> bool:
    """Whether several episodes begin with the same start, greedy ones among them."""
    if given.estimator is None:
        greedy = reads_greedy(config)
    else:  # it is checked later
        greedy = isinstance(given.estimator, Estimator) and given.estimator.reads_greedy
    return config.group_size > 1 or greedy


def reads_greedy(config: TrainConfig) -> bool:
    """Whether the named estimator reads a greedy episode of each group."""
    return in_groups(config) and "greedy" in groups.ESTIMATORS[config.estimator or ""]().reads


def baseline_of(config: TrainConfig) -> str | None:
    """The name of the baseline; None for an estimator that has its own."""
    return None if in_groups(config) else config.baseline or "value-network"


def with_time_limit(estimator: Any, config: TrainConfig) -> Any:
    """A named estimator's settings, with the default of `time_limit` filled in."""
    if not isinstance(estimator, ReturnsToGo) or estimator.time_limit is not None:
        return estimator
    name = config.estimator or "gae"
    critic = built_in.has_critic(name, estimator, whole_episodes=config.whole_episodes)
    return replace(estimator, time_limit="bootstraps" if critic else "terminates")


def uses_value_network(config: TrainConfig, estimator: Any) -> bool:
    """Whether a named estimator has a value network, as its baseline or as its critic."""
    baseline = baseline_of(config)
    if baseline is None:
        return False
    if BASELINES[baseline] is not NoSettings:
        return True
    own_critic = baseline == "linear-features"
    critic = built_in.has_critic(
        config.estimator or "", estimator, whole_episodes=config.whole_episodes
    )
    return critic and not own_critic


def check_batches(config: TrainConfig, estimator: Any) -> None:
    """Raise UserError if a named estimator cannot be used with these batches."""
    if in_groups(config):
        _check_groups(config)
        return
    per_episode = not isinstance(estimator, ReturnsToGo)
    own_values = config.baseline in (
        None, "value-network", "value-classifier", "linear-features"
    )  # fmt: skip
    monte_carlo = config.estimator == "reward-to-go" and not own_values
    needs_episodes = per_episode or monte_carlo or config.baseline == "leave-one-out"
    if needs_episodes:
        _require_episodes(config)
    if config.baseline == "leave-one-out" and config.batch_episodes == 1:
        raise UserError(
            "--baseline leave-one-out needs at least 2 episodes a batch, got --batch-episodes 1"
        )
    if per_episode and config.time_limit == "bootstraps":
        raise UserError(
            f"--estimator {config.estimator} sums an episode's own rewards and cannot bootstrap, "
            "got --time-limit bootstraps; leave it out, or choose an estimator with a critic"
        )


def _require_episodes(config: TrainConfig) -> None:
    if config.whole_episodes:
        return
    what = f"--estimator {config.estimator}"
    if config.baseline is not None:
        what += f" --baseline {config.baseline}"
    raise UserError(
        f"{what} needs whole episodes, and segments of {config.steps_per_batch} steps are "
        "collected; add --batch-episodes N"
    )


def _check_groups(config: TrainConfig) -> None:
    if reads_greedy(config):
        _require_episodes(config)
    elif config.group_size == 1:
        raise UserError(
            f"--estimator {config.estimator} weighs each episode by the others that start from the "
            "same reset; add --batch-episodes N --group-size K"
        )
    if config.baseline is not None:
        raise UserError(
            f"--estimator {config.estimator} has a baseline of its own, got --baseline "
            f"{config.baseline}; leave it out"
        )
