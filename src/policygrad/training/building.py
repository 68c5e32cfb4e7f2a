"""From resolved settings to the values of a run: policy, estimator, learner."""

from dataclasses import replace

import jax
import numpy as np
from gymnasium import spaces
from jaxtyping import PRNGKeyArray

from policygrad.algorithms import Learner, learner
from policygrad.core.errors import UserError
from policygrad.gradients import baselines
from policygrad.gradients.baselines import Critic, StateBaseline
from policygrad.gradients.baselines.shared import SharedValue
from policygrad.gradients.weights import Estimator
from policygrad.policies import network_policy
from policygrad.policies.architectures import Architecture, FullyConnected
from policygrad.policies.meeting import Policy
from policygrad.policies.memory import Memory
from policygrad.spaces import (
    ObservationEncoder,
    action_space_of,
    observation_space_of,
    warn_of_other_names,
    warn_of_unresolved,
)
from policygrad.training import built_in
from policygrad.training.given import Given
from policygrad.training.resolve import Resolved


def build_policy(
    resolved: Resolved,
    given: Given,
    key: PRNGKeyArray,
    observation_space: spaces.Space,
    action_space: spaces.Space,
) -> Policy:
    """The policy that was passed, or the default one for a pair of spaces. Consumes the key."""
    observations, actions = observation_space_of(observation_space), action_space_of(action_space)
    warn_of_unresolved(observations)
    if given.policy is not None:
        return given.policy
    warn_of_other_names(observations, actions)
    settings = resolved.policy
    return network_policy(
        key,
        observation_space,
        action_space,
        network=architecture(resolved, given),
        memory=memory(resolved),
        valued=settings.shared_trunk,
        log_std=settings.log_std,
        squash=settings.tanh_gaussian,
        clipped=settings.clipped_gaussian,
        normalise_observations=settings.normalise_observations,
        clip_observations=settings.clip_observations,
    )


def architecture(resolved: Resolved, given: Given) -> Architecture:
    """The architecture of the policy: the one that was passed, or the one of a name."""
    return _architecture(resolved, given, resolved.policy.hidden)


def critic_architecture(resolved: Resolved, given: Given) -> Architecture:
    """The architecture of the critic: the policy's, but for what its own settings say.

    Raises:
        UserError: layer normalisation of a network that is not fully connected.
    """
    own = resolved.critic
    hidden = resolved.policy.hidden if own.critic_hidden is None else own.critic_hidden
    made = _architecture(resolved, given, hidden)
    if not own.critic_layer_norm:
        return made
    if not isinstance(made, FullyConnected):
        raise UserError(
            "--critic-layer-norm normalises the layers of a fully connected critic, and this one "
            f"is {made}; leave it out"
        )
    return replace(made, layer_norm=True)


def _architecture(resolved: Resolved, given: Given, hidden: tuple[int, ...] | None) -> Architecture:
    if given.network is not None:
        return given.network
    settings = resolved.policy
    return built_in.network_named(settings.network or "fully-connected", hidden, settings.channels)


def memory(resolved: Resolved) -> Memory | None:
    """What policy and critic remember; None for nothing."""
    settings = resolved.policy
    if settings.memory is None:
        return None
    assert settings.memory_size is not None  # as `resolve` filled it in
    return Memory(settings.memory, settings.memory_size)


def build_estimator(resolved: Resolved, given: Given, time_limit: int | None) -> Estimator:
    """The estimator that was passed, or that a configuration names.

    If the estimator has a critic, a baseline that may bootstrap is also the critic. Any other
    baseline is subtracted from returns that a value network bootstraps.
    """
    if given.estimator is not None:
        return given.estimator
    config, settings = resolved.config, resolved.estimator
    assert settings is not None
    assert config.estimator is not None

    if config.baseline is None:
        return built_in.estimator_named(config.estimator, settings, baselines.none(), None)
    network, whole_episodes = critic_architecture(resolved, given), config.whole_episodes
    if resolved.policy.shared_trunk:
        coefficient = resolved.policy.value_coefficient
        assert coefficient is not None  # as `resolve` filled it in
        critic = SharedValue(coefficient)
        return built_in.estimator_named(config.estimator, settings, critic, critic)
    remembers, clip = memory(resolved), resolved.policy.clip_observations
    baseline = built_in.baseline_named(
        config.baseline, resolved.critic, network, remembers,
        time_limit=time_limit, whole_episodes=whole_episodes, clip_observations=clip,
    )  # fmt: skip
    critic: Critic | None = None
    if built_in.has_critic(config.estimator, settings, whole_episodes=whole_episodes):
        critic = built_in.value_network(resolved.critic, network, remembers, clip)
        if isinstance(baseline, Critic) and baseline.may_bootstrap:
            critic = baseline
    return built_in.estimator_named(config.estimator, settings, baseline, critic)


def build_learner(
    resolved: Resolved, given: Given, observation_space: spaces.Space, time_limit: int | None
) -> Learner:
    """The learner of a run."""
    config = resolved.config
    estimator = build_estimator(resolved, given, time_limit)
    if config.scale_rewards:
        _check_units(estimator)
    return learner(
        resolved.algorithm,
        estimator.bind(ObservationEncoder(observation_space_of(observation_space))),
        total_steps=config.total_steps,
        scale_rewards=config.scale_rewards,
        clip_rewards=bool(config.clip_rewards),
    )


def _check_units(estimator: Estimator) -> None:
    """Raise UserError for given numbers in units of the reward, which scaled rewards leave."""
    for role in ("baseline", "critic"):
        part = getattr(estimator, role)
        given = part.given_state() if isinstance(part, StateBaseline) else None
        if any(np.any(np.asarray(numbers)) for numbers in jax.tree.leaves(given)):
            raise UserError(
                f"the {role} {type(part).__name__} was given numbers in units of the reward, and "
                "training divides rewards by their running size; pass scale_rewards=False "
                "(--no-scale-rewards), or a baseline that is fitted"
            )
