"""The default policy for a pair of spaces: a network that outputs a distribution's parameters.

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
    Joint,
    MultiCategorical,
    TanhGaussian,
)
from policygrad.policies.architectures import Architecture, Network, build, chosen
from policygrad.policies.normaliser import ObservationNormaliser
from policygrad.spaces import (
    ActionSpace,
    Box,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Nested,
    ObservationEncoder,
    action_mask,
    action_space_of,
    check_mask,
    observation_space_of,
)


class NetworkPolicy(eqx.Module):
    """raw observation -> normaliser -> network -> distribution.

    Attributes:
        normaliser: encodes and normalises observations; its statistics are carried.
        network: the normaliser's output -> `[outputs]`.
        log_std: `[k]`, state-independent, of the Gaussians, one Box after the other; None where
            there are none.
        action_space: static.
        architecture: of the network; static.
        squash: whether a Gaussian is squashed by tanh; static.
        clipped: whether a Gaussian scores actions as the environment's bounds clip them; static.
    """

    normaliser: ObservationNormaliser
    network: Network
    log_std: Float[Array, " k"] | None
    action_space: ActionSpace = eqx.field(static=True)
    architecture: Architecture = eqx.field(static=True)
    squash: bool = eqx.field(static=True, default=False)
    clipped: bool = eqx.field(static=True, default=False)

    def __call__(self, observation: PyTree) -> Distribution:
        outputs = self.network(self.normaliser(observation))
        return self._over(self.action_space, outputs, self.log_std, action_mask(observation))

    def _over(
        self,
        space: ActionSpace,
        outputs: Float[Array, " outputs"],
        log_std: Float[Array, " k"] | None,
        mask: PyTree,
    ) -> Distribution:
        """The distribution over a space, from its share of the outputs and of `log_std`."""
        match space:
            case Discrete():
                return Categorical(outputs, mask)
            case MultiDiscrete(sizes=sizes):
                return MultiCategorical.from_logits(outputs, tuple(sizes.flat), mask)
            case MultiBinary():
                return Bernoulli(outputs, mask)
            case Box():
                assert log_std is not None
                return self._gaussian(space, outputs, log_std)
            case Nested():
                shares = space.shares(outputs, log_std, mask)
                return Joint(space.like([self._over(*share) for _, share in shares]))
        raise TypeError(f"no distribution over {space}")

    def _gaussian(
        self, box: Box, outputs: Float[Array, " k"], log_std: Float[Array, " k"]
    ) -> Distribution:
        mean, log_std = outputs.reshape(box.shape), log_std.reshape(box.shape)
        if self.squash:
            return TanhGaussian(mean, log_std)
        if self.clipped:
            return ClippedGaussian(mean, log_std, *map(jnp.asarray, box.clipping_bounds))
        return DiagonalGaussian(mean, log_std)


def network_policy(
    key: PRNGKeyArray,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    *,
    hidden: Sequence[int] | None = None,
    network: Architecture | None = None,
    log_std: float = -0.5,
    squash: bool = False,
    clipped: bool = False,
    normalise_observations: bool = True,
) -> NetworkPolicy:
    """The default policy for a pair of spaces.

    Args:
        key: consumed.
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or Dict or Tuple of these.
            A Dict may hold an `action_mask`, one flag for each choice.
        action_space: Discrete, MultiDiscrete, MultiBinary or Box, or Dict or Tuple of these.
        hidden: sizes of the tanh layers, (64, 64) by default: short for
            `network=FullyConnected(hidden)`.
        network: the architecture of the network; it may be one of your own.
        log_std: initial log standard deviation, in units of half the action range (or of the action
            itself if the range is infinite).
        squash: tanh-Gaussian in place of Gaussian, for bounded Box actions.
        clipped: clipped Gaussian in place of Gaussian, for Box actions; `squash` overrides it.
        normalise_observations: keep running statistics of the observations and normalise by them.

    Raises:
        UnsupportedSpaceError: for any other space, and for a mask that does not fit the actions.
        ValueError: `hidden` and `network` both, or a network that is not an architecture.
    """
    architecture = chosen(network, hidden)
    observations, actions = observation_space_of(observation_space), action_space_of(action_space)
    check_mask(observations, actions)
    example, outputs = observations.example(), actions.parameters
    normaliser = ObservationNormaliser.of(
        example, ObservationEncoder(observations), normalise=normalise_observations
    )
    gaussian = actions.deviations > 0
    return NetworkPolicy(
        normaliser,
        build(architecture, key, normaliser, example, outputs, last_scale=0.01),
        jnp.asarray(np.full(actions.deviations, log_std, np.float32)) if gaussian else None,
        actions,
        architecture,
        squash and gaussian,
        clipped and gaussian,
    )


def action_parameters(space: spaces.Space) -> int:
    """How many network outputs a distribution over this (Gymnasium) action space takes."""
    return action_space_of(space).parameters
