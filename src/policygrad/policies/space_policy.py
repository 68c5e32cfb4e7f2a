"""The default policy for a pair of spaces: a network whose outputs are a distribution's numbers.

A policy is any pytree that maps one observation to a `Distribution`; a user's own is any module
with a `__call__`.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.maths.distributions import (
    Bernoulli,
    Categorical,
    ClippedGaussian,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
    TanhGaussian,
)
from policygrad.policies.networks import MLP, mlp
from policygrad.policies.normaliser import ObservationNormaliser
from policygrad.spaces.actions import action_bounds
from policygrad.spaces.encoding import ObservationEncoder, action_mask
from policygrad.spaces.records import (
    check_action_space,
    check_observation_space,
    example_observation,
    space_from_json,
    space_to_json,
)


class NetworkPolicy(eqx.Module):
    """raw observation -> normaliser -> MLP -> distribution.

    Attributes:
        normaliser: encodes and normalises observations; its statistics are carried.
        network: `[f] -> [outputs]`.
        log_std: `[k]`, state-independent, of a Gaussian policy; None for discrete ones.
        action_space: as JSON; static.
        squash: whether a Gaussian is squashed by tanh; static.
        clipped: whether a Gaussian scores actions as the environment's bounds clip them; static.
    """

    normaliser: ObservationNormaliser
    network: MLP
    log_std: Float[Array, " k"] | None
    action_space: str = eqx.field(static=True)
    squash: bool = eqx.field(static=True, default=False)
    clipped: bool = eqx.field(static=True, default=False)

    def __call__(self, observation: PyTree) -> Distribution:
        outputs = self.network(self.normaliser(observation))
        mask = action_mask(observation)
        space = space_from_json(self.action_space)
        match space:
            case spaces.Discrete():
                return Categorical(outputs, mask)
            case spaces.MultiDiscrete():
                return MultiCategorical.from_logits(outputs, tuple(space.nvec.flat), mask)
            case spaces.MultiBinary():
                return Bernoulli(outputs, mask)
        assert isinstance(space, spaces.Box)
        assert self.log_std is not None
        mean = outputs.reshape(space.shape)
        log_std = self.log_std.reshape(space.shape)
        if self.squash:
            return TanhGaussian(mean, log_std)
        if self.clipped:
            return ClippedGaussian(mean, log_std, *map(jnp.asarray, action_bounds(space)))
        return DiagonalGaussian(mean, log_std)


def network_policy(
    key: PRNGKeyArray,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    *,
    hidden: Sequence[int] = (64, 64),
    log_std: float = -0.5,
    squash: bool = False,
    clipped: bool = False,
    normalise_observations: bool = True,
) -> NetworkPolicy:
    """The default policy for a pair of spaces.

    Args:
        key: consumed.
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or Dict or Tuple of these.
            A Dict may hold an `action_mask`, one flag an action.
        action_space: Discrete, MultiDiscrete, MultiBinary or Box.
        hidden: sizes of the tanh layers.
        log_std: initial log standard deviation, in units of half the action range (or of the action
            itself where the range is infinite).
        squash: tanh-Gaussian in place of Gaussian, for bounded Box actions.
        clipped: clipped Gaussian in place of Gaussian, for Box actions; squash wins.
        normalise_observations: keep running statistics of the observations and normalise by them.

    Raises:
        UnsupportedSpaceError: for any other space.
    """
    check_observation_space(observation_space)
    check_action_space(action_space)
    encode = ObservationEncoder(space_to_json(observation_space))
    example = example_observation(observation_space)
    normaliser = ObservationNormaliser.of(example, encode)
    inputs = len(encode.normalised)
    if not normalise_observations:
        normaliser = ObservationNormaliser(normaliser.statistics, encode, (False,) * inputs)
    outputs = action_parameters(action_space)
    gaussian = isinstance(action_space, spaces.Box)
    return NetworkPolicy(
        normaliser,
        mlp(key, inputs, outputs, hidden, last_scale=0.01),
        jnp.asarray(np.full(outputs, log_std, np.float32)) if gaussian else None,
        space_to_json(action_space),
        squash and gaussian,
        clipped and gaussian,
    )


def action_parameters(space: spaces.Space) -> int:
    """How many network outputs a distribution over this action space takes."""
    match space:
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
    assert space.shape is not None
    return int(np.prod(space.shape))
