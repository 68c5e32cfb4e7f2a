"""The host rollout: lanes that Python steps."""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from policygrad.core.padding import without_padding
from policygrad.core.trajectories import Trajectories
from policygrad.environments.lanes import Lanes, LaneStep, Seeded, owned, owned_step
from policygrad.environments.replay import episode_seed
from policygrad.rollout.acting import cut_slots
from policygrad.rollout.actor import Draw
from policygrad.rollout.heights import padded_length
from policygrad.rollout.info_tally import InfoTally
from policygrad.spaces import ActionSpace, action_space_of


def collect_segment(
    lanes: Lanes, draw: Draw, steps: int, carry: PyTree = (), tally: InfoTally | None = None
) -> Trajectories:
    """T steps of B lanes, which go on from the segment before.

    Args:
        lanes: stepped in place; the next segment goes on from them.
        draw: actions and log-probabilities of one row.
        steps: T.
        carry: pytree of `[B, ...]`, of a policy with memory before the first row.
        tally: takes the numbers of the infos.
    """
    space = action_space_of(lanes.action_space)
    rows, cuts = [], _Cuts(lanes.num_envs, cut_slots(steps, lanes.time_limit))
    for t in range(steps):
        row = step_lanes(lanes, space, draw, t)
        last = np.full(lanes.num_envs, t == steps - 1)
        cut = (row.step.truncated & ~row.step.terminated) | last
        if cut.any():
            cuts.take(np.flatnonzero(cut), row.step.successors, row.times + 1)
        if tally is not None:
            tally.add(row.step.infos, row.step.valid, row.step.terminated | row.step.truncated)
        rows.append((row.observations, row.actions, *row.step[1:5], row.times, row.log_probs))
    observations, actions, rewards, terminated, truncated, valid, times, log_probs = stack(rows)
    if not valid.all():
        read = observations, actions, log_probs
        observations, actions, log_probs = without_padding(valid, read)
    cut_observations, cut_times = cuts.stacked()
    rewards: Any = np.where(valid, rewards, np.float32(0))
    return Trajectories(
        observations,
        actions,
        rewards,
        terminated,
        truncated,
        valid,
        times,
        log_probs,
        cut_observations,
        cut_times,
        jax.tree.map(lambda x: np.asarray(x)[None], carry),
    )


def segment_shapes(
    observations: Any, actions: Any, log_probs: Any, carry: Any, steps: int, slots: int
) -> Trajectories:
    """The shapes of what `collect_segment` returns, `jax.ShapeDtypeStruct` in place of arrays.

    Args:
        observations, actions, log_probs, carry: of one row, pytrees of `[B, ...]`.
        steps: T.
        slots: K, of `cut_slots`.
    """
    flags, times = (jax.ShapeDtypeStruct(log_probs.shape, t) for t in (np.bool_, np.int32))
    row = observations, actions, log_probs, flags, flags, flags, times, log_probs
    cuts = rows_like(slots, (observations, times))
    return Trajectories(*rows_like(steps, row), *cuts, carry=rows_like(1, carry))


def rows_like(count: int, row: Any) -> Any:
    """The shapes of so many rows, from one: a pytree of arrays or of their shapes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), row)


class HostRow(NamedTuple):
    """One step of B lanes, from observation to successor, in copied arrays.

    Attributes:
        observations: pytree of `[B, ...]`, before the step.
        times: `[B]`, the steps that each episode had before this one.
        actions: pytree of `[B, ...]`.
        log_probs: `[B]`, nats.
        step: what the environments returned.
    """

    observations: Any
    times: np.ndarray
    actions: Any
    log_probs: np.ndarray
    step: LaneStep


def step_lanes(lanes: Lanes, space: ActionSpace, draw: Draw, t: int) -> HostRow:
    """Act in every lane and step it: the one place where the host reads what environments return.

    What goes into a record is copied and checked here, because environments may overwrite the
    arrays of this step in the next one. Lanes copy only what their own reset would overwrite.
    Actions are copied as well, since a view of JAX's arrays would keep its buffers alive as long as
    a record or a log.

    Raises:
        EnvironmentFailure: the environment raised, or did not return a step of B lanes.
    """
    space_seen, count = lanes.observation_space, lanes.num_envs
    observations = owned(lanes.observations, space_seen, count)
    times = np.array(lanes.times, np.int32)
    actions, log_probs = jax.tree.map(np.array, draw(t, observations, times))
    step = owned_step(lanes.step(space.to_environment(actions)), space_seen, count)
    return HostRow(observations, times, actions, log_probs, step)


def stack(rows: list) -> Any:
    """A list of T pytrees as one pytree of `[T, ...]`."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


class _Cuts:
    """Successors of cut steps, per lane and in order of time."""

    def __init__(self, num_envs: int, slots: int) -> None:
        self._slots = slots
        self._rows: list[list[Any]] = [[] for _ in range(num_envs)]
        self._times: list[list[int]] = [[] for _ in range(num_envs)]

    def take(self, lanes: np.ndarray, successors: Any, times: np.ndarray) -> None:
        for lane in lanes:
            self._rows[lane].append(jax.tree.map(lambda x, i=lane: x[i].copy(), successors))
            self._times[lane].append(int(times[lane]))

    def stacked(self) -> tuple[Any, Any]:
        """Padded to one number of rows, which is doubled until every lane's rows fit."""
        slots = self._slots
        while slots < max(map(len, self._rows)):
            slots *= 2
        padded = [rows + [rows[-1]] * (slots - len(rows)) for rows in self._rows]
        columns = [stack(rows) for rows in padded]
        observations = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *columns)
        times = np.zeros((slots, len(self._times)), np.int32)
        for lane, values in enumerate(self._times):
            times[: len(values), lane] = values
        return observations, times


class EpisodeRow(NamedTuple):
    """One step of all lanes, and which of N episodes each lane is in.

    Attributes:
        row: the step.
        episode: `[B]`, the column that the lane's step belongs to; −1 for none.
        time: `[B]`, the step's number within its episode.
        ended, unfinished: `[B]`, this step was the episode's last, by its own end or by the cap.
    """

    row: HostRow
    episode: np.ndarray
    time: np.ndarray
    ended: np.ndarray
    unfinished: np.ndarray


def run_episodes(
    lanes: Lanes,
    draw: Draw,
    seed: int,
    *,
    episodes: int,
    max_steps: int,
    group_size: int = 1,
    first_lane: int = 0,
    seeded: bool = False,
) -> Iterator[EpisodeRow]:
    """Start N episodes and run all to their end, so that short ones are not over-represented.

    A lane that ends an episode begins the next one as long as fewer than N have begun. Whether an
    episode is among the N is decided before its first step, so it cannot depend on its length.
    Lanes that the cap stops in mid-episode wait until all lanes have stopped, and are then
    restarted.

    Args:
        lanes: restarted with `seed`; there may be fewer than N.
        draw: actions and log-probabilities of one row.
        seed: of the environments.
        episodes: N.
        max_steps: cap on an episode's length; an episode that reaches it is left unfinished.
        group_size: k; every k episodes in a row begin with the same seed. The lanes must then be
            `Seeded`.
        first_lane: the number of the first of the lanes; the seeds of groups follow from it.
        seeded: give each group its seed even if k is 1, so that its start can be had again.
    """
    begun, t, round_ = 0, 0, 0
    space = action_space_of(lanes.action_space)
    episode = np.full(lanes.num_envs, -1)
    time = np.zeros(lanes.num_envs, np.int64)

    def seeds(which: Iterable[int]) -> list[int]:
        """Of the episodes that lanes begin: they take the next ones in order, as below."""
        numbers, all_begin = count(begun), not (episode >= 0).any()
        taken = [next(numbers) if all_begin or episode[i] >= 0 else begun for i in which]
        return [episode_seed(seed, first_lane + n // group_size, 1) for n in taken]

    while begun < episodes or (episode >= 0).any():
        if not (episode >= 0).any():
            if seeded or group_size > 1:
                assert isinstance(lanes, Seeded)  # as the source has checked
                lanes.start_with(seeds)
            else:
                lanes.start(episode_seed(seed, 0, round_))
            round_ += 1
            free = min(lanes.num_envs, episodes - begun)
            episode[:free] = begun + np.arange(free)
            begun += free
            time[:] = 0
        row = step_lanes(lanes, space, draw, t)
        step = row.step
        t += 1
        current = np.where(step.valid, episode, -1)
        ended = (current >= 0) & (step.terminated | step.truncated)
        capped = (current >= 0) & ~ended & (time + 1 >= max_steps)
        yield EpisodeRow(row, current, time.copy(), ended, capped)
        time = np.where(ended, 0, time + (current >= 0))
        episode[ended | capped] = -1
        begins = np.flatnonzero(ended)[: episodes - begun]
        episode[begins] = begun + np.arange(len(begins))
        begun += len(begins)


def collect_episodes(
    lanes: Lanes,
    draw: Draw,
    seed: int,
    *,
    episodes: int,
    max_steps: int,
    carry: PyTree = (),
    tally: InfoTally | None = None,
    group_size: int = 1,
    first_lane: int = 0,
    seeded: bool = False,
) -> tuple[Trajectories, np.ndarray]:
    """The record of `run_episodes`, one column an episode, and `[N]` flags of unfinished ones.

    Args:
        lanes, draw, seed, episodes, max_steps, group_size, first_lane, seeded: as for
            `run_episodes`.
        carry: pytree of `[N, ...]`, of a policy with memory at the start of an episode.
        tally: takes the numbers of the infos.
    """
    rows, used, column, time, finals = [], [], [], [], []
    unfinished = np.zeros(episodes, bool)
    for row, episode, times, ended, capped in run_episodes(
        lanes, draw, seed, episodes=episodes, max_steps=max_steps, group_size=group_size,
        first_lane=first_lane, seeded=seeded,
    ):  # fmt: skip
        rows.append((row.observations, row.actions, *row.step[1:4], row.log_probs))
        used.append(episode >= 0)
        column.append(episode[used[-1]])
        time.append(times[used[-1]])
        last = ended | capped
        if tally is not None:
            tally.add(row.step.infos, used[-1], last)
        if last.any():  # other successors are the next observations; only these are kept
            kept = jax.tree.map(lambda x, last=last: x[last], row.step.successors)
            finals.append((episode[last], kept))
        unfinished[episode[capped]] = True
    used, column, time = np.stack(used), np.concatenate(column), np.concatenate(time)
    lengths: Any = np.bincount(column, minlength=episodes).astype(np.int32)
    height = padded_length(int(lengths.max()))

    def scatter(*leaves: np.ndarray) -> np.ndarray:
        out = np.zeros((height, episodes, *leaves[0].shape[1:]), leaves[0].dtype)
        out[time, column] = np.stack(leaves)[used]
        return out

    observations, actions, rewards, terminated, truncated, log_probs = jax.tree.map(scatter, *rows)
    owners = np.concatenate([owner for owner, _ in finals])

    def final(*leaves: np.ndarray) -> np.ndarray:
        kept = np.concatenate(leaves)
        return kept[np.argsort(owners)][None]

    times: Any = np.arange(height, dtype=np.int32)[:, None]
    record = Trajectories(
        observations,
        actions,
        rewards,
        terminated,
        truncated,
        times < lengths,
        times.repeat(episodes, axis=1),
        log_probs,
        jax.tree.map(final, *[kept for _, kept in finals]),
        lengths[None],
        jax.tree.map(lambda x: np.asarray(x)[None], carry),
        whole_episodes=True,
        group_size=group_size,
    )
    return record, unfinished
