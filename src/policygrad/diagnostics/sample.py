"""What fresh episodes with a policy say about it and about its environment."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float

from policygrad.core.modules import PolicyShape
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import compiled
from policygrad.maths.returns import returns_to_go
from policygrad.policies.meeting import distributions
from policygrad.spaces import (
    ActionSpace,
    Space,
    action_space_of,
    boxes,
    permits_nothing,
    space_of,
)

EDGE = 0.99  # of the half range: an action beyond this counts as being at the bound


@dataclass(frozen=True)
class Spread:
    """The distribution of a quantity. All NaN if nothing was seen."""

    mean: float
    std: float
    least: float
    most: float

    @classmethod
    def of(cls, x: np.ndarray) -> "Spread":
        """The distribution of the finite entries of x."""
        x = np.asarray(x, np.float64).ravel()
        x = x[np.isfinite(x)]
        if not x.size:
            return cls(np.nan, np.nan, np.nan, np.nan)
        return cls(float(x.mean()), float(x.std()), float(x.min()), float(x.max()))


@dataclass(frozen=True)
class Sample:
    """N fresh episodes with the newest policy; observations and rewards are raw.

    Attributes:
        episodes, steps: N, and transitions in all of them.
        unfinished: episodes that were stopped at the cap on steps.
        returns: of the undiscounted returns.
        lengths: of the lengths, in steps.
        rewards: of the rewards of single steps.
        rewards_not_finite: how many are NaN or infinite.
        discounted_size: root mean square of the discounted return to go, over steps.
        observation_components: how many numbers the policy sees; one-hot parts count as one.
        constant_components: how many of them never change.
        observation_size: the root mean squares of the components that change.
        observations_not_finite: how many numbers are NaN or infinite.
        truncated: share of the episodes that ended by truncation.
        entropy: mean over steps, nats.
        greatest_entropy: the logarithm of the number of actions; NaN for continuous actions.
        action_noise: root mean square of sampled minus most probable action, in half ranges of the
            bounds; NaN for discrete actions.
        at_bounds: share of action components that reach the environment at a bound.
        mean_at_bounds: the same share for the most probable actions.
        critic_explains: explained variance of the discounted return to go by the newest critic (or
            baseline); NaN without one.
        returns_vary: standard deviation of the same returns to go, divided by their root mean
            square. If it is small there is nothing to explain.
        masks_without_action: how many action masks permit no action.
    """

    episodes: int
    steps: int
    unfinished: int
    returns: Spread
    lengths: Spread
    rewards: Spread
    rewards_not_finite: int
    discounted_size: float
    observation_components: int
    constant_components: int
    observation_size: Spread
    observations_not_finite: int
    truncated: float
    entropy: float
    greatest_entropy: float
    action_noise: float
    at_bounds: float
    mean_at_bounds: float
    critic_explains: float = np.nan
    returns_vary: float = np.nan
    masks_without_action: int = 0

    @property
    def sound(self) -> bool:
        """Whether the environment returned no NaN and no infinity."""
        return self.rewards_not_finite == 0 and self.observations_not_finite == 0


def measure(
    policy: Any,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    episodes: Trajectories,
    unfinished: np.ndarray,
    *,
    discount: float,
    judged: tuple[Float[np.ndarray, "T B"], Float[np.ndarray, "T B"]] | None = None,
) -> Sample:
    """Measure environment and policy on whole episodes.

    Args:
        policy: observation -> distribution; the policy that acted.
        observation_space, action_space: of the environment.
        episodes: one column each, with raw rewards.
        unfinished: `[N]`, which episodes were stopped at the cap on steps.
        discount: γ of the discounted return to go.
        judged: `[T, N]` each: returns to go, and what the run subtracts from them.
    """
    valid = np.asarray(episodes.valid)
    rewards = np.where(valid, np.asarray(episodes.rewards, np.float64), 0.0)
    finite = np.where(np.isfinite(rewards), rewards, 0.0)
    lengths = valid.sum(axis=0)
    to_go = np.asarray(_to_go(jnp.asarray(finite, jnp.float32), discount), np.float64)
    observations, actions = space_of(observation_space), space_of(action_space)
    components, constant, sizes, bad = _observations(observations, episodes.observations, valid)
    entropy, greatest, deviation, modes = _actions(policy, actions, episodes, valid)
    explains = vary = float("nan")
    if judged is not None:
        targets, baseline = (np.asarray(x, np.float64)[valid] for x in judged)
        with np.errstate(invalid="ignore"):  # the critic may return NaN
            vary = float(targets.std() / max(np.sqrt(np.mean(targets**2)), 1e-30))
            explains = float(1 - np.var(targets - baseline) / max(np.var(targets), 1e-30))
    truncated = np.asarray(episodes.truncated & ~np.asarray(episodes.terminated))
    return Sample(
        episodes=valid.shape[1],
        steps=int(valid.sum()),
        unfinished=int(np.sum(unfinished)),
        returns=Spread.of(rewards.sum(axis=0)),
        lengths=Spread.of(lengths),
        rewards=Spread.of(np.asarray(episodes.rewards)[valid]),
        rewards_not_finite=int((~np.isfinite(rewards)).sum()),
        discounted_size=float(np.sqrt(np.mean(to_go[valid] ** 2))),
        observation_components=components,
        constant_components=constant,
        observation_size=sizes,
        observations_not_finite=bad,
        truncated=float(np.mean((truncated & valid).any(axis=0) | np.asarray(unfinished))),
        entropy=entropy,
        greatest_entropy=greatest,
        action_noise=deviation,
        at_bounds=_at_bounds(actions, episodes.actions, valid),
        mean_at_bounds=_at_bounds(actions, modes, valid),
        critic_explains=explains,
        returns_vary=vary,
        masks_without_action=_empty_masks(
            episodes.observations, action_space_of(action_space), valid
        ),
    )


@partial(compiled, static_argnums=1)
def _to_go(rewards: Float[Array, "T B"], discount: float) -> Float[Array, "T B"]:
    no = jnp.zeros(rewards.shape[0], bool)
    zero = jnp.zeros(rewards.shape[0])
    return jax.vmap(lambda r: returns_to_go(r, zero, no, no, discount=discount), 1, 1)(rewards)


def _observations(
    space: Space, observations: Any, valid: np.ndarray
) -> tuple[int, int, Spread, int]:
    """The number of components, how many are constant, their sizes, how many are not finite."""
    parts = [np.asarray(x, np.float64) for x in space.parts(observations)]
    rows = np.concatenate([x.reshape(*x.shape[:2], -1)[valid] for x in parts], axis=1)
    finite = np.isfinite(rows)
    highest = rows.max(axis=0, where=finite, initial=-np.inf)
    changing = highest != rows.min(axis=0, where=finite, initial=np.inf)
    squares = np.sum(rows**2, axis=0, where=finite) / np.maximum(finite.sum(axis=0), 1)
    sizes = Spread.of(np.sqrt(squares[changing]))
    return rows.shape[1], int((~changing).sum()), sizes, int((~finite).sum())


def _empty_masks(observations: Any, space: ActionSpace, valid: np.ndarray) -> int:
    nothing = permits_nothing(observations, space)
    return 0 if nothing is None else int((valid & np.asarray(nothing)).sum())


@partial(compiled, static_argnums=0)
def _entropy_and_mode(
    shape: PolicyShape, arrays: tuple[Any, ...], episodes: Trajectories
) -> tuple[Float[Array, "T B"], Any]:
    def one(distribution: Any) -> tuple[Array, Any]:
        return distribution.entropy(), distribution.mode()

    return jax.vmap(jax.vmap(one))(distributions(shape.policy(arrays), episodes))


def _actions(
    policy: Any, space: Space, episodes: Trajectories, valid: np.ndarray
) -> tuple[float, float, float, Any]:
    """Mean entropy, the greatest possible entropy, the noise of Box actions, and the modes."""
    shape = PolicyShape.of(policy)
    entropies, modes = _entropy_and_mode(shape, shape.arrays(policy), episodes)
    entropy = float(np.mean(np.asarray(entropies, np.float64)[valid]))
    deviation = float("nan")
    taken, most_probable = boxes(space, episodes.actions), boxes(space, modes)
    if taken:
        away = [
            np.asarray(actions, np.float64) - np.asarray(mode, np.float64)
            for (_, actions), (_, mode) in zip(taken, most_probable, strict=True)
        ]
        deviation = float(np.sqrt(np.mean(_components(away)[valid] ** 2)))
    return entropy, space.greatest_entropy, deviation, modes


def _at_bounds(space: Space, actions: Any, valid: np.ndarray) -> float:
    """Share of action components that lie at a finite bound or beyond it."""
    outside = [
        (np.abs(np.asarray(part, np.float64)) >= EDGE) & box.bounded & (box.scale[1] > 0)
        for box, part in boxes(space, actions)
    ]
    return float(np.mean(_components(outside)[valid])) if outside else 0.0


def _components(parts: list[np.ndarray]) -> np.ndarray:
    """Arrays `[T, B, ...]` as one, `[T, B, k]`."""
    return np.concatenate([x.reshape(*x.shape[:2], -1) for x in parts], axis=2)
