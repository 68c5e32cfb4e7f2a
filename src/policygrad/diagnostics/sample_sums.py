"""What fresh episodes say, as sums: those of some episodes and of others add up to those of all."""

from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float, Int

from policygrad.core.modules import PolicyShape
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import SAME_EVERYWHERE, compiled
from policygrad.diagnostics.sample import Sample
from policygrad.diagnostics.spread import Moments, Spread
from policygrad.maths.returns import returns_to_go
from policygrad.policies.meeting import distributions
from policygrad.spaces import (
    Space,
    action_space_of,
    boxes,
    permits_nothing,
    space_of,
)

EDGE = 0.99  # of the half range: an action beyond this counts as being at the bound


@dataclass(frozen=True)
class Components:
    """The numbers that the policy sees, one by one.

    Attributes:
        least, most: `[k]`, of the finite ones.
        squares: `[k]`, the sums of the squares of the finite ones.
        finite: `[k]`, how many are finite.
        not_finite: how many of all are not.
    """

    least: Float[np.ndarray, " k"]
    most: Float[np.ndarray, " k"]
    squares: Float[np.ndarray, " k"]
    finite: Int[np.ndarray, " k"]
    not_finite: int

    @classmethod
    def of(cls, space: Space, observations: Any, valid: np.ndarray) -> "Components":
        """Those of the observations `[T, N, ...]` of all steps."""
        parts = [np.asarray(x, np.float64) for x in space.parts(observations)]
        rows = np.concatenate([x.reshape(*x.shape[:2], -1)[valid] for x in parts], axis=1)
        finite = np.isfinite(rows)
        return cls(
            rows.min(axis=0, where=finite, initial=np.inf),
            rows.max(axis=0, where=finite, initial=-np.inf),
            np.sum(rows**2, axis=0, where=finite),
            finite.sum(axis=0),
            int((~finite).sum()),
        )

    def __add__(self, other: "Components") -> "Components":
        return Components(
            np.minimum(self.least, other.least),
            np.maximum(self.most, other.most),
            self.squares + other.squares,
            self.finite + other.finite,
            self.not_finite + other.not_finite,
        )

    @property
    def changing(self) -> np.ndarray:
        """`[k]`, which of them change."""
        return self.most != self.least

    @property
    def sizes(self) -> Spread:
        """The root mean squares of those that change."""
        squares = self.squares / np.maximum(self.finite, 1)
        return Spread.of(np.sqrt(squares[self.changing]))


@dataclass(frozen=True)
class SampleSums:
    """Sums over some fresh episodes, from which `Sample` follows; see there.

    Attributes:
        episodes, steps, unfinished, truncated: counts.
        returns, lengths: of the episodes.
        rewards: of the rewards of steps that are finite.
        rewards_not_finite, masks_without_action: counts.
        discounted_squares: Σ (discounted return to go)², over steps.
        seen: the numbers in observations.
        entropy: over steps, nats.
        noise_squares, noise_components: of sampled minus most probable actions, over components of
            the Box actions of all steps, and how many components these are.
        off_mode: steps whose action is not the most probable one.
        action_components: of actions that have bounds, over steps.
        at_bounds, mean_at_bounds: how many of them are at a bound.
        targets: of the returns to go that the newest critic (or baseline) is judged by.
        targets_squares: Σ of their squares.
        residuals: of the same less its predictions.
        greatest_entropy: as in `Sample`.
    """

    episodes: int
    steps: int
    unfinished: int
    truncated: int
    returns: Moments
    lengths: Moments
    rewards: Moments
    rewards_not_finite: int
    masks_without_action: int
    discounted_squares: float
    seen: Components
    entropy: float
    noise_squares: float
    noise_components: int
    off_mode: int
    action_components: int
    at_bounds: int
    mean_at_bounds: int
    greatest_entropy: float
    targets: Moments = field(default_factory=Moments)
    targets_squares: float = 0.0
    residuals: Moments = field(default_factory=Moments)

    def __add__(self, other: "SampleSums") -> "SampleSums":
        names = [f.name for f in fields(self)]
        both = SampleSums(**{name: getattr(self, name) + getattr(other, name) for name in names})
        return replace(both, greatest_entropy=self.greatest_entropy)

    @property
    def sound(self) -> bool:
        """Whether the environment returned no NaN and no infinity."""
        return self.rewards_not_finite == 0 and self.seen.not_finite == 0

    def sample(self) -> Sample:
        """What follows for all the episodes."""
        explains = vary = deviation = float("nan")
        if self.targets.count:
            size = np.sqrt(self.targets_squares / self.targets.count)
            vary = float(np.sqrt(self.targets.variance) / max(size, 1e-30))
            explains = float(1 - self.residuals.variance / max(self.targets.variance, 1e-30))
        if self.noise_components:
            deviation = float(np.sqrt(self.noise_squares / self.noise_components))
        components = max(self.action_components, 1)
        return Sample(
            episodes=self.episodes,
            steps=self.steps,
            unfinished=self.unfinished,
            returns=self.returns.spread,
            lengths=self.lengths.spread,
            rewards=self.rewards.spread,
            rewards_not_finite=self.rewards_not_finite,
            discounted_size=float(np.sqrt(self.discounted_squares / self.steps)),
            observation_components=len(self.seen.least),
            constant_components=int((~self.seen.changing).sum()),
            observation_size=self.seen.sizes,
            observations_not_finite=self.seen.not_finite,
            truncated=self.truncated / self.episodes,
            entropy=self.entropy / self.steps,
            greatest_entropy=self.greatest_entropy,
            action_noise=deviation,
            action_components=self.noise_components // self.steps,
            off_mode=self.off_mode / self.steps,
            at_bounds=self.at_bounds / components,
            mean_at_bounds=self.mean_at_bounds / components,
            critic_explains=explains,
            returns_vary=vary,
            masks_without_action=self.masks_without_action,
        )


def measure(
    policy: Any,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    episodes: Trajectories,
    unfinished: np.ndarray,
    *,
    discount: float,
    judged: tuple[Float[np.ndarray, "T B"], Float[np.ndarray, "T B"]] | None = None,
) -> SampleSums:
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
    to_go = np.asarray(_to_go(jnp.asarray(finite, jnp.float32), discount), np.float64)
    actions = space_of(action_space)
    entropies, modes = _entropies_and_modes(policy, episodes)
    noise = _noise(actions, episodes.actions, modes, valid)
    at_bounds, mean_at_bounds = (_at_bounds(actions, x, valid) for x in (episodes.actions, modes))
    truncated = np.asarray(episodes.truncated & ~np.asarray(episodes.terminated))
    nothing = permits_nothing(episodes.observations, action_space_of(action_space))
    found = SampleSums(
        episodes=valid.shape[1],
        steps=int(valid.sum()),
        unfinished=int(np.sum(unfinished)),
        truncated=int(((truncated & valid).any(axis=0) | np.asarray(unfinished)).sum()),
        returns=Moments.of_finite(rewards.sum(axis=0)),
        lengths=Moments.of_finite(valid.sum(axis=0)),
        rewards=Moments.of_finite(np.asarray(episodes.rewards)[valid]),
        rewards_not_finite=int((~np.isfinite(rewards)).sum()),
        masks_without_action=0 if nothing is None else int((valid & np.asarray(nothing)).sum()),
        discounted_squares=float(np.sum(to_go[valid] ** 2)),
        seen=Components.of(space_of(observation_space), episodes.observations, valid),
        entropy=float(np.sum(entropies[valid])),
        noise_squares=float(np.sum(noise**2)),
        noise_components=noise.size,
        off_mode=_off_mode(episodes.actions, modes, valid),
        action_components=at_bounds.size,
        at_bounds=int(at_bounds.sum()),
        mean_at_bounds=int(mean_at_bounds.sum()),
        greatest_entropy=actions.greatest_entropy,
    )
    if judged is None:
        return found
    targets, baseline = (np.asarray(x, np.float64)[valid] for x in judged)
    with np.errstate(invalid="ignore"):  # the critic may return NaN
        return replace(
            found,
            targets=Moments.of(targets),
            targets_squares=float(np.sum(targets**2)),
            residuals=Moments.of(targets - baseline),
        )


@partial(compiled, static_argnums=1, compiler_options=SAME_EVERYWHERE)
def _to_go(rewards: Float[Array, "T B"], discount: float) -> Float[Array, "T B"]:
    no = jnp.zeros(rewards.shape[0], bool)
    zero = jnp.zeros(rewards.shape[0])
    return jax.vmap(lambda r: returns_to_go(r, zero, no, no, discount=discount), 1, 1)(rewards)


@partial(compiled, static_argnums=0, compiler_options=SAME_EVERYWHERE)
def _entropy_and_mode(
    shape: PolicyShape, arrays: tuple[Any, ...], episodes: Trajectories
) -> tuple[Float[Array, "T B"], Any]:
    def one(distribution: Any) -> tuple[Array, Any]:
        return distribution.entropy(), distribution.mode()

    return jax.vmap(jax.vmap(one))(distributions(shape.policy(arrays), episodes))


def _entropies_and_modes(policy: Any, episodes: Trajectories) -> tuple[np.ndarray, Any]:
    shape = PolicyShape.of(policy)
    entropies, modes = _entropy_and_mode(shape, shape.arrays(policy), episodes)
    return np.asarray(entropies, np.float64), modes


def _noise(space: Space, actions: Any, modes: Any, valid: np.ndarray) -> np.ndarray:
    """`[n, k]`, sampled less most probable actions, in half ranges; Box actions of all steps."""
    taken, most_probable = boxes(space, actions), boxes(space, modes)
    away = [
        np.asarray(actions, np.float64) - np.asarray(mode, np.float64)
        for (_, actions), (_, mode) in zip(taken, most_probable, strict=True)
    ]
    return _components(away, valid)


def _off_mode(actions: Any, modes: Any, valid: np.ndarray) -> int:
    """In how many of the steps an action `[T, B, ...]` is not the mode, beyond rounding."""
    parts = zip(jax.tree.leaves(actions), jax.tree.leaves(modes), strict=True)
    off = [~np.isclose(taken, mode, rtol=1e-5, atol=1e-6) for taken, mode in parts]
    return int(_components(off, valid).any(axis=1).sum())


def _at_bounds(space: Space, actions: Any, valid: np.ndarray) -> np.ndarray:
    """`[n, k]`, whether components of Box actions lie at a finite bound or beyond it."""
    outside = [
        (np.abs(np.asarray(part, np.float64)) >= EDGE) & box.bounded & (box.scale[1] > 0)
        for box, part in boxes(space, actions)
    ]
    return _components(outside, valid)


def _components(parts: list[np.ndarray], valid: np.ndarray) -> np.ndarray:
    """Arrays `[T, B, ...]` as one, `[n, k]`, of the valid steps; empty without any."""
    if not parts:
        return np.zeros((0, 0))
    return np.concatenate([x.reshape(*x.shape[:2], -1) for x in parts], axis=2)[valid]
