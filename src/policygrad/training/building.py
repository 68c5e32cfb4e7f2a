"""From a configuration to the values it names: estimator, optimiser, policy, algorithm."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from gymnasium import spaces
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.algorithms import PPO, TRPO, Algorithm, Natural, Vanilla
from policygrad.core.errors import UserError
from policygrad.gradients import baselines, estimators
from policygrad.gradients.baselines import Baseline, StateBaseline
from policygrad.gradients.estimators import Estimator
from policygrad.policies.space_policy import NetworkPolicy, network_policy
from policygrad.spaces import ObservationEncoder, space_of
from policygrad.training.config import TrainConfig


def build_baseline(name: str, config: TrainConfig, time_limit: int | None) -> Baseline:
    """The baseline of that name, with the configuration's settings."""
    match name:
        case "value-network":
            return baselines.value_network(
                config.hidden,
                step_size=config.critic_step_size,
                epochs=int(config.critic_epochs or 1),
                minibatches=config.critic_minibatches,
            )
        case "linear-features":
            return baselines.linear_features()
        case "variance-optimal":  # where segments cut episodes, their own gradients are not known
            return baselines.variance_optimal(cross_terms=config.batch_episodes is not None)
        case "time-dependent":
            return baselines.time_dependent(time_limit or 1000)
        case "constant":
            return baselines.constant()
        case "leave-one-out":
            return baselines.leave_one_out()
    return baselines.none()


def build_estimator(config: TrainConfig, time_limit: int | None) -> Estimator:
    """The estimator that a configuration names.

    A baseline that may bootstrap is the critic too, where the estimator has one. Another baseline
    is subtracted from returns that a value network bootstraps.
    """
    baseline = build_baseline(config.baseline or "value-network", config, time_limit)
    common: dict[str, Any] = {
        "discount": config.discount,
        "normalise_advantages": config.normalise_advantages,
    }
    if config.estimator in ("total-return", "reward-indexed"):
        make = getattr(estimators, config.estimator.replace("-", "_"))
        return make(baseline=baseline, **common)

    common["discounted_states"] = config.discounted_states
    limit: Any = config.time_limit
    if config.estimator == "reward-to-go" and config.batch_episodes is not None:
        critic = None
        if config.time_limit == "bootstraps":
            critic, baseline = _critic_and_baseline(baseline, config)
        return estimators.reward_to_go(baseline=baseline, critic=critic, time_limit=limit, **common)
    critic, baseline = _critic_and_baseline(baseline, config)
    common |= {
        "critic": critic,
        "baseline": baseline,
        "time_limit": limit or "bootstraps",
    }
    match config.estimator:
        case "reward-to-go":
            return estimators.reward_to_go(**common)
        case "n-step":
            return estimators.n_step(n=config.n, **common)
        case "td":
            return estimators.td(**common)
    return estimators.gae(gae_lambda=config.gae_lambda, **common)


def _critic_and_baseline(
    baseline: Baseline, config: TrainConfig
) -> tuple[StateBaseline, Baseline | None]:
    if isinstance(baseline, StateBaseline) and baseline.may_bootstrap:
        return baseline, None
    critic = build_baseline("value-network", config, None)
    assert isinstance(critic, StateBaseline)
    return critic, baseline


@lru_cache(maxsize=8)
def build_optimiser(
    name: str, adam_epsilon: float, log_std_step: float
) -> optax.GradientTransformation:
    """The named optimiser, without its step size, which the algorithm adapts.

    The same object every time, so that what was compiled with it is found again.
    """
    match name:
        case "adam":
            optimiser = optax.scale_by_adam(eps=adam_epsilon)
        case "rmsprop":
            optimiser = optax.scale_by_rms()
        case _:
            return optax.identity()
    if log_std_step == 1:
        return optimiser
    return optax.chain(optimiser, optax.masked(optax.scale(log_std_step), _is_log_std))


def _is_log_std(parameters: PyTree) -> PyTree:
    """Whether a leaf is a log standard deviation, by the name of the field that holds it."""

    def named(path: tuple[Any, ...], _: Any) -> bool:
        return getattr(path[-1], "name", None) == "log_std" if path else False

    return jax.tree_util.tree_map_with_path(named, parameters)


def build_policy(
    config: TrainConfig,
    key: PRNGKeyArray,
    observation_space: spaces.Space,
    action_space: spaces.Space,
) -> NetworkPolicy:
    """The default policy for a pair of spaces, with the configuration's settings."""
    return network_policy(
        key,
        observation_space,
        action_space,
        hidden=config.hidden,
        log_std=config.log_std,
        squash=config.tanh_gaussian,
        clipped=bool(config.clipped_gaussian),
        normalise_observations=config.normalise_observations,
    )


def build_algorithm(
    config: TrainConfig,
    observation_space: spaces.Space,
    *,
    time_limit: int | None,
    estimator: Estimator | None = None,
    optimiser: optax.GradientTransformation | None = None,
) -> Algorithm:
    """The algorithm that a configuration names; an estimator or optimiser passed in wins."""
    if estimator is None:
        estimator = build_estimator(config, time_limit)
    encode = ObservationEncoder(space_of(observation_space))
    estimator = estimator.bind(encode)
    frame: dict[str, Any] = {
        # arrays, so that another value of a number compiles nothing anew
        "estimator": jax.tree.map(jnp.asarray, estimator),
        "entropy_coefficient": config.entropy_coefficient,
        "scale_rewards": config.scale_rewards,
        "decay": config.total_steps if config.step_size_schedule == "linear" else 0,
        "target_kl": config.target_kl,
    }
    if config.algorithm in ("natural", "trpo"):
        if optimiser is not None:
            raise UserError(
                f"--algorithm {config.algorithm} sizes its own steps and takes no optimiser, got "
                f"{optimiser}; leave it out, or choose vanilla or ppo"
            )
        return {"natural": Natural, "trpo": TRPO}[config.algorithm](
            **frame,
            cg_iterations=config.cg_iterations,
            damping=config.damping,
            fisher_share=config.fisher_share,
        )
    frame |= {
        "optimiser": optimiser
        or build_optimiser(config.optimiser, config.adam_epsilon, float(config.log_std_step or 1)),
        "step_size": jnp.asarray(config.step_size),
        "max_global_norm": config.max_global_norm,
    }
    if config.algorithm == "vanilla":
        return Vanilla(**frame)
    return PPO(
        **frame,
        clip_ratio=config.clip_ratio,
        epochs=config.ppo_epochs,
        minibatches=config.ppo_minibatches,
    )
