"""The default policy for a pair of spaces: a network that outputs a distribution's parameters.

A policy is any pytree that maps one observation to a `Distribution`; a user's own is any module
with a `__call__`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policygrad.core.errors import UnsupportedSpaceError
from policygrad.maths.distributions import (
    Bernoulli,
    Categorical,
    ClippedGaussian,
    DiagonalGaussian,
    Distribution,
    Joint,
    MultiCategorical,
    TanhGaussian,
    Valued,
)
from policygrad.policies.architectures import Architecture, build, build_recurrent, chosen
from policygrad.policies.memory import Memory
from policygrad.policies.normaliser import CLIP, ObservationNormaliser
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

LogStd = float | Literal["shared"]
USUAL_LOG_STD = -0.5


class SpacePolicy(eqx.Module):
    """What the policies of this library are made of; they differ in whether they remember.

    Attributes:
        normaliser: encodes and normalises observations; its statistics are carried.
        network: what reads the normaliser's output.
        log_std: `[k]`, state-independent, of the Gaussians, one Box after the other; None where
            there are none.
        action_space: static.
        architecture: of the network, or of its encoder; static.
        squash: whether a Gaussian is squashed by tanh; static.
        clipped: whether a Gaussian scores actions as the environment's bounds clip them; static.
        valued: whether the network's last output is the value of the state; static.
    """

    normaliser: ObservationNormaliser
    network: Any
    log_std: Float[Array, " k"] | None
    action_space: ActionSpace = eqx.field(static=True)
    architecture: Architecture = eqx.field(static=True)
    squash: bool = eqx.field(static=True, default=False)
    clipped: bool = eqx.field(static=True, default=False)
    valued: bool = eqx.field(static=True, default=False)

    def decided(self, outputs: Float[Array, " outputs"], observation: PyTree) -> Distribution:
        """The distribution that the network's outputs at an observation stand for."""
        of_actions, mask = outputs[:-1] if self.valued else outputs, action_mask(observation)
        found = distribution_over(self.action_space, of_actions, self.log_std, mask, self._gaussian)
        return Valued(found, outputs[-1]) if self.valued else found

    def _gaussian(
        self, box: Box, outputs: Float[Array, " k"], log_std: Float[Array, " k"]
    ) -> Distribution:
        mean, log_std = outputs.reshape(box.shape), log_std.reshape(box.shape)
        if self.squash:
            return TanhGaussian(mean, log_std)
        if self.clipped:
            return ClippedGaussian(mean, log_std, *map(jnp.asarray, box.clipping_bounds))
        return DiagonalGaussian(mean, log_std)


def distribution_over(
    space: ActionSpace,
    outputs: Float[Array, " outputs"],
    log_std: Float[Array, " k"] | None,
    mask: PyTree,
    over_box: Callable[[Box, Any, Any], Any],
) -> Any:
    """The distribution over a space, from its share of the outputs and of `log_std`.

    Args:
        space: that is acted in.
        outputs: all parameters but the standard deviations.
        log_std: of the Boxes; None where there are none.
        mask: as `action_mask` finds it.
        over_box: (Box, outputs, log_std) -> the distribution over it.
    """
    match space:
        case Discrete():
            return Categorical(outputs, mask)
        case MultiDiscrete(sizes=sizes):
            return MultiCategorical.from_logits(outputs, tuple(sizes.flat), mask)
        case MultiBinary():
            return Bernoulli(outputs, mask)
        case Box():
            assert log_std is not None
            return over_box(space, outputs, log_std)
        case Nested():
            shares = space.shares(outputs, log_std, mask)
            parts = [distribution_over(*share, over_box) for _, share in shares]
            return Joint(space.like(parts))
    raise TypeError(f"no distribution over {space}")


class NetworkPolicy(SpacePolicy):
    """raw observation -> normaliser -> network -> distribution."""

    def __call__(self, observation: PyTree) -> Distribution:
        return self.decided(self.network(self.normaliser(observation)), observation)


class RecurrentPolicy(SpacePolicy):
    """raw observation, carry -> normaliser -> recurrent network -> distribution, carry.

    Attributes:
        memory: of the network; static.
    """

    memory: Memory = eqx.field(static=True, default=Memory())

    def initial_carry(self) -> PyTree:
        """The carry at the start of an episode."""
        return self.network.initial_carry()

    def __call__(self, observation: PyTree, carry: PyTree) -> tuple[Distribution, PyTree]:
        outputs, carry = self.network(self.normaliser(observation), carry)
        return self.decided(outputs, observation), carry

    def unrolled(
        self, observations: PyTree, begins: Bool[Array, " T"], carry: PyTree
    ) -> Distribution:
        """The distributions at all steps of a lane, as `RecurrentNetwork.unrolled`."""
        outputs, _ = self.network.unrolled(self.normaliser, observations, begins, carry)
        return jax.vmap(self.decided)(outputs, observations)


def network_policy(
    key: PRNGKeyArray,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    *,
    hidden: Sequence[int] | None = None,
    network: Architecture | None = None,
    memory: Memory | None = None,
    log_std: LogStd = USUAL_LOG_STD,
    squash: bool = False,
    clipped: bool = False,
    valued: bool = False,
    normalise_observations: bool = True,
    clip_observations: float = CLIP,
) -> NetworkPolicy | RecurrentPolicy:
    """The default policy for a pair of spaces.

    Args:
        key: consumed.
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or Dict or Tuple of these.
            A Dict may hold an `action_mask`, one flag for each choice.
        action_space: Discrete, MultiDiscrete, MultiBinary or Box, or Dict or Tuple of these.
        hidden: sizes of the dense layers; None for those of the network, which are (64, 64) where
            no observation is a picture.
        network: the architecture of the network; it may be one of your own. None for tanh layers,
            and for convolutions where an observation is a picture.
        memory: what the policy remembers of an episode; None for a policy without memory.
        log_std: initial log standard deviation, in units of half the action range (or of the action
            itself if the range is infinite); or shared, as in `initial_log_std`.
        squash: tanh-Gaussian in place of Gaussian, for Box actions with both bounds.
        clipped: clipped Gaussian in place of Gaussian, for Box actions; `squash` overrides it.
        valued: the network gives a value too, for a critic that is an output of it (`SharedValue`).
        normalise_observations: keep running statistics of the observations and normalise by them.
        clip_observations: bound of normalised observations, in standard deviations.

    Raises:
        UnsupportedSpaceError: for any other space, for a mask that does not fit the actions, and
            for `squash` where a Box lacks a bound.
        ValueError: `hidden` and `network` both, a network that is not an architecture, or a bound
            that is not positive.
    """
    observations, actions = observation_space_of(observation_space), action_space_of(action_space)
    architecture = chosen(network, hidden, observations)
    check_mask(observations, actions)
    if squash:
        _check_bounds(actions)
    example, outputs = observations.example(), actions.parameters + valued
    normaliser = ObservationNormaliser.of(
        example,
        ObservationEncoder(observations),
        normalise=normalise_observations,
        clip=clip_observations,
    )
    count, gaussian = actions.deviations, actions.deviations > 0
    initial = np.full(count, initial_log_std(log_std, count), np.float32)
    deviations = jnp.asarray(initial) if gaussian else None
    what = actions, architecture, squash and gaussian, clipped and gaussian, valued
    if memory is None:
        read = build(architecture, key, normaliser, example, outputs, last_scale=0.01)
        return NetworkPolicy(normaliser, read, deviations, *what)
    recurrent = build_recurrent(
        architecture, memory, key, normaliser, example, outputs, last_scale=0.01
    )
    return RecurrentPolicy(normaliser, recurrent, deviations, *what, memory)


def _check_bounds(space: ActionSpace) -> None:
    """Refuse a Box that lacks a bound: tanh would keep its actions between −1 and 1."""
    if isinstance(space, Nested):
        for _, part in space.acted_in:
            _check_bounds(part)
    elif isinstance(space, Box) and not space.bounded.all():
        raise UnsupportedSpaceError(
            f"squashed actions (--tanh-gaussian, squash=True) need both bounds, and "
            f"{space.to_gymnasium()} lacks some: an action there would never leave −1 to 1; leave "
            "--tanh-gaussian out, or give the Box finite bounds"
        )


def initial_log_std(asked: LogStd, actions: int) -> float:
    """The initial log standard deviation of each of k actions.

    Args:
        asked: the number itself; or shared, ln(2/k) where that is less than −0.5, else −0.5: the
            standard deviations of many actions sum to the range of one.
        actions: k.
    """
    if asked != "shared":
        return asked
    return min(USUAL_LOG_STD, math.log(2 / max(actions, 1)))


def action_parameters(space: spaces.Space) -> int:
    """How many network outputs a distribution over this (Gymnasium) action space takes."""
    return action_space_of(space).parameters
