"""Whether an update is sound: its batch, its numbers and its refit are finite; if not, why."""

from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from policygrad.core.errors import EnvironmentFailure, NonFiniteError, moment
from policygrad.core.trajectories import Trajectories, cut_mask, environment_steps, lost_cuts
from policygrad.spaces import ActionSpace, Space, permits_nothing
from policygrad.spaces.traced import Outside, outside, stray
from policygrad.training.report import UpdateReport

WATCHED = ("gradient_norm", "kl", "entropy")
LARGE = 1e6  # smaller rewards do not add up to an overflow, however long a run is
LARGEST = 1e15  # a sum of squares of many such rewards or observations still fits in 32 bits


class TaskSpaces(NamedTuple):
    """By what records are checked.

    Attributes:
        actions: for masks.
        observations: for numbers out of range; None where the records hold none.
    """

    actions: ActionSpace
    observations: Space | None = None


def is_sound(
    trajectories: Trajectories,
    actions: ActionSpace | None = None,
    observations: Space | None = None,
) -> Bool[Array, ""]:
    """`[]`: whether the batch has no NaN, no number beyond `LARGEST`, no observation out of its
    space's range, no mask that permits no action, and no lost successor. Pure; `check_finite` names
    what is wrong."""
    found = [jnp.any(bad) for _, _, bad, _ in _unsound(trajectories, actions, observations)]
    found += [jnp.any(lost_cuts(trajectories)), jnp.any(_unsound_greedy(trajectories))]
    return ~jnp.any(jnp.stack(found))


def check_finite(
    trajectories: Trajectories,
    update: int,
    env_steps: int,
    actions: ActionSpace | None = None,
    observations: Space | None = None,
) -> None:
    """Raise if a batch holds NaN, a number beyond `LARGEST`, an observation out of range, or a mask
    that permits no action, or lacks the successor of a truncated step.

    Raises:
        NonFiniteError: it names the source, the environment and the step.
        EnvironmentFailure: an observation is out of the range of its space, or an environment
            truncated episodes before its declared time limit.
    """
    lost = np.flatnonzero(lost_cuts(trajectories))
    if len(lost):
        times = np.asarray(trajectories.times)
        ended = np.asarray(trajectories.truncated & ~trajectories.terminated)[:, lost[0]]
        raise EnvironmentFailure(
            f"environment {lost[0]} truncated {ended.sum()} episodes in {len(times)} steps, the "
            f"shortest after {times[ended, lost[0]].min() + 1}: more often than its declared "
            "time_limit allows, which is the number of steps before which it never truncates; "
            "declare the smallest such number, or None if there is none"
        )
    until = env_steps + int(environment_steps(trajectories))
    when = f"in update {update + 1} (environment steps {env_steps} to {until})"
    for kind, array, bad, times in _unsound(trajectories, actions, observations):
        bad = np.asarray(bad)
        if not bad.any():
            continue
        row, lane = np.argwhere(bad)[0]
        what = "the action mask permits no action in the observation"
        if isinstance(array, Outside):
            what = f"{stray(array.leaf, array.first[row, lane])},"
        elif kind != "mask":
            value = np.ravel(np.asarray(array)[row, lane])
            found = value[np.asarray(_too_large(value))][0]
            what = f"{found:.7g} in the {kind}"
            if np.isfinite(found):
                what = f"{what} (above {LARGEST:g}, squares of it do not fit in 32 bits)"
        column = "episode" if trajectories.whole_episodes else "environment"
        # a step returns its reward and the next observation
        at = moment(int(times[row, lane]) + (kind == "reward"))
        text = f"{what} of {column} {lane} {at} of its episode, {when}"
        raise EnvironmentFailure(text) if kind == "range" else NonFiniteError(text, kind)
    greedy = np.asarray(_unsound_greedy(trajectories))
    if greedy.any():
        row, lane = np.argwhere(greedy)[0]
        raise NonFiniteError(
            f"a reward that is NaN, infinite or above {LARGEST:g}, or an observation on "
            f"which the policy cannot act, at step {row + 1} of the greedy episode from the start "
            f"of episode {lane}, {when}",
            "reward",
        )


def first_unsound(reports: list[UpdateReport]) -> int | None:
    """The first update whose batch, whose result or whose refit holds a NaN or an infinity."""
    for i, report in enumerate(reports):
        watched = [getattr(report.info, name) for name in WATCHED]
        fitted = report.refit is None or bool(report.refit.sound)
        sound = report.sound and report.carried_sound and fitted
        if not (sound and np.all(np.isfinite(watched))):
            return i
    return None


def refuse_update(
    report: UpdateReport,
    trajectories: Trajectories | None,
    update: int,
    env_steps: int,
    spaces: TaskSpaces | None = None,
) -> NoReturn:
    """Raise for an update that is not sound.

    Args:
        report: the report of the update.
        trajectories: its batch; None if it is not available.
        update: its number, from 0.
        env_steps: the total before it.
        spaces: by which the batch is checked.

    Raises:
        NonFiniteError: always; it names the number, and where it came from.
        EnvironmentFailure: as `check_finite`.
    """
    if trajectories is not None:
        check_finite(trajectories, update, env_steps, *(spaces or (None, None)))
    where = f"at update {update + 1} (environment step {env_steps})"
    large = trajectories is not None and np.max(np.abs(np.asarray(trajectories.rewards))) > LARGE
    if large and not report.sound:  # each reward is finite, and the square of their sum is not
        raise NonFiniteError(
            f"the rewards {where} are too large: the square of their discounted sum, by which they "
            "are scaled, does not fit in 32 bits; divide them in the environment, or train with "
            "--no-scale-rewards",
            "reward",
        )
    if report.sound and not report.carried_sound:
        raise NonFiniteError(
            f"NaN or infinity in what the policy measures of observations {where}, while each of "
            "them is finite: divide the observations in the environment, or look at the policy's "
            "running statistics",
            "observation",
        )
    for name in WATCHED:
        value = getattr(report.info, name)
        if not np.isfinite(value):
            raise NonFiniteError(
                f"{value} in the {name.replace('_', ' ')} {where}, while observations and rewards "
                "are finite: lower the step size, or look at the policy's outputs",
                "gradient",
            )
    if report.refit is not None and not report.refit.sound:
        raise NonFiniteError(
            f"NaN or infinity in the critic or the baseline {where}, after their fit to finite "
            "returns: lower --critic-step-size, or look at the size of the rewards",
            "critic",
        )
    raise NonFiniteError(
        f"NaN or infinity {where}, in a batch that was finite when it was collected again: the "
        "update rounds differently in another program; lower the step size"
    )


def _unsound(
    trajectories: Trajectories, actions: ActionSpace | None, space: Space | None
) -> list[tuple[str, Any, Array, Any]]:
    """Kinds, arrays `[T, B, ...]` or `[K, B, ...]`, which of their entries are unsound, and the
    times of those. Of observations out of range, an `Outside` in place of the array."""
    valid, times, cut_times = trajectories.valid, trajectories.times, trajectories.cut_times
    bootstrapped = jnp.ones(cut_times.shape, bool)
    if trajectories.whole_episodes:
        ends = jnp.asarray(trajectories.truncated & ~trajectories.terminated)
        bootstrapped = jnp.broadcast_to(jnp.any(ends, axis=0), cut_times.shape)
    measured = []
    for observations, mask, when in (
        (trajectories.observations, valid, times),
        (trajectories.cut_observations, bootstrapped, cut_times),
    ):
        measured += [
            ("observation", leaf, mask, when)
            for leaf in jax.tree.leaves(observations)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]

    def entries(array: Any) -> Array:
        return jnp.asarray(array).reshape(*array.shape[:2], -1)

    measured = [("reward", trajectories.rewards, valid, times), *measured]
    found: list[tuple[str, Any, Array, Any]] = [
        (name, array, jnp.any(_too_large(entries(array)), axis=2) & mask, when)
        for name, array, mask, when in measured
    ]
    found += _out_of_range(trajectories, space)
    nothing = permits_nothing(trajectories.observations, actions)
    if nothing is not None:
        found.append(("mask", None, nothing & valid, times))
    return found


def _unsound_greedy(trajectories: Trajectories) -> Any:
    """Rewards of greedy episodes that are unsound, `[T, B]`; False without such episodes."""
    if trajectories.greedy is None:
        return False
    return _too_large(trajectories.greedy.rewards)


def _too_large(numbers: Any) -> Array:
    """Which numbers are beyond `LARGEST`, infinite or NaN."""
    return ~(jnp.abs(jnp.asarray(numbers, jnp.float32)) <= LARGEST)


def _out_of_range(
    trajectories: Trajectories, space: Space | None
) -> list[tuple[str, Any, Array, Any]]:
    """The rows of `_unsound` for observations out of their space's range."""
    if space is None:
        return []
    slots = jnp.arange(len(trajectories.cut_times))[:, None]  # those behind the cuts hold zeros
    used = slots < jnp.sum(cut_mask(trajectories), axis=0)
    return [
        ("range", part, part.any & there, times)
        for observations, there, times in (
            (trajectories.observations, trajectories.valid, trajectories.times),
            (trajectories.cut_observations, used, trajectories.cut_times),
        )
        for part in outside(space, observations, batch=2)
        if part is not None
    ]
