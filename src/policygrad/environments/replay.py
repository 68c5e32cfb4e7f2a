"""How to bring lanes back to where they were: reset with recorded seeds, repeat the actions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PyTree

if TYPE_CHECKING:
    from policygrad.environments.gymnasium_lanes import GymnasiumLanes

Seeds = Callable[[Iterable[int]], list[int]]  # lanes -> the seeds of what they begin

MOST_BYTES = 2**24  # held by every checkpoint
MOST_STEPS = 2**18  # of all lanes together; to repeat more would take longer than seconds


@dataclass
class ReplayLog:
    """How to bring lanes back: reset with the recorded seeds, then repeat the recorded actions.

    If each lane can be reset alone, a lane needs only its running episode, and actions older than
    every running episode are dropped. A vector environment that seeds all lanes at once needs
    everything since `start`. A log never holds more than `MOST_STEPS` steps or `MOST_BYTES` of
    actions; a larger one is emptied. After that lanes can be brought back only if each can be reset
    alone, and once all running episodes have begun later.

    Attributes:
        seed: of `start`; every other seed follows from it.
        each_lane: whether each lane can be reset alone.
        num_envs: B.
        episodes: `[B]`, how many episodes each lane has begun.
        begun: `[B]`, the step at which its running episode began.
        first: the step of the first action still kept.
        actions: the actions since then, pytrees of `[B, ...]`.
        first_lane: the number of the first lane; seeds follow from it.
        keeps: False if the environments cannot be brought back; actions are then only counted.
        nothing: what stands for no actions at all, in the structure of one.
    """

    seed: int
    each_lane: bool
    num_envs: int
    first: int = 0
    actions: list[PyTree] = field(default_factory=list)
    keeps: bool = True
    first_lane: int = 0
    nothing: PyTree = field(default_factory=lambda: np.zeros((0,)))

    def __post_init__(self) -> None:
        self.episodes = np.ones(self.num_envs, np.int64)
        self.begun = np.zeros(self.num_envs, np.int64)
        self._full = 256  # trimming is rare, and so costs almost nothing a step

    def record(self, actions: PyTree) -> None:
        """Record the actions of one step; from time to time, drop what is no longer needed."""
        if not self.keeps:
            self.first += 1
            return
        self.actions.append(jax.tree.map(np.array, actions))  # an environment may change its own
        if len(self.actions) >= self._full:
            self.trim()
            self._full = max(256, 2 * len(self.actions))

    def to_arrays(self) -> dict[str, Any]:
        """The log as arrays, without the actions that no running episode needs."""
        self.trim()
        return {
            "seed": np.array(self.seed, np.uint32),
            "first": np.array(self.first, np.int64),
            "episodes": self.episodes.copy(),
            "begun": self.begun.copy(),
            "actions": jax.tree.map(lambda *rows: np.stack(rows), *self.actions)
            if self.actions
            else self.nothing,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any], **known: Any) -> "ReplayLog":
        """The log that `to_arrays` gave; known: each_lane, num_envs, keeps, first_lane, nothing."""
        leaves, structure = jax.tree.flatten(arrays["actions"])
        actions = [structure.unflatten(row) for row in zip(*map(np.array, leaves), strict=True)]
        log = cls(int(arrays["seed"]), first=int(arrays["first"]), actions=actions, **known)
        log.episodes, log.begun = arrays["episodes"].copy(), arrays["begun"].copy()
        return log

    def begin_episodes(self, lanes: np.ndarray) -> list[int]:
        """Record that these lanes begin a new episode; returns their seeds."""
        self.episodes[lanes] += 1
        self.begun[lanes] = self.first + len(self.actions)
        return self.seeds_of(lanes)

    def seeds_of(self, lanes: Any) -> list[int]:
        """The seeds of the running episodes of these lanes."""
        return [
            episode_seed(self.seed, self.first_lane + lane, int(self.episodes[lane]))
            for lane in lanes
        ]

    @property
    def complete(self) -> bool:
        """Whether the log still holds all that is needed to bring the lanes back."""
        needed = int(self.begun.min()) if self.each_lane else 0
        return self.keeps and self.first <= needed

    def trim(self) -> None:
        """Drop the actions that no running episode needs, or all if they are too many."""
        if self.each_lane:
            self._drop(int(self.begun.min()) - self.first)
        steps = len(self.actions)
        size = sum(x.nbytes for x in jax.tree.leaves(self.actions[:1]))
        if steps * self.num_envs > MOST_STEPS or steps * size > MOST_BYTES:
            self._drop(len(self.actions))
            self.keeps = self.each_lane

    def _drop(self, count: int) -> None:
        count = max(count, 0)
        self.first += count
        del self.actions[:count]


class GivenSeeds(ReplayLog):
    """A log of lanes whose episodes begin with seeds that are given; it brings no lane back.

    Args:
        seeds: lanes -> the seeds of the episodes that they begin.
        num_envs: B.
        nothing: as in `ReplayLog`.
    """

    def __init__(self, seeds: Seeds, num_envs: int, nothing: PyTree) -> None:
        super().__init__(0, True, num_envs, keeps=False, nothing=nothing)
        self._given = seeds

    def seeds_of(self, lanes: Any) -> list[int]:
        return self._given(lanes)


def episode_seed(seed: int, lane: int, episode: int) -> int:
    """A seed for one episode of one lane, the same whatever the other lanes do."""
    sequence = np.random.SeedSequence((int(seed), int(lane), int(episode)))
    return int(sequence.generate_state(1)[0])


def lane_seeds(seed: int, first: int, count: int) -> list[int]:
    """`SeedSequence(seed).generate_state(first + count)[first:]`, without drawing those before.

    The i-th number is a hash of one of the sequence's words with a mᶦ mod 2³², so that any of them
    can be had alone. Source: M. E. O'Neill (2015), Developing a seed_seq Alternative; the constants
    are NumPy's.
    """
    words, size, seeds = np.random.SeedSequence(seed).pool.tolist(), 2**32, []
    for i in range(first, first + count):
        constant = 0x8B51F9DD * pow(0x58F38DED, i, size) % size
        hashed = (words[i % len(words)] ^ constant) * (constant * 0x58F38DED) % size
        seeds.append(hashed ^ hashed >> 16)
    return seeds


def bring_back(lanes: "GymnasiumLanes", log: ReplayLog) -> None:
    """Bring lanes to where they were when the log was taken, by replaying it.

    A lane whose episode began later than the first recorded action waits until then, and is reset
    with its seed. Where the vector environment cannot leave a lane alone, it repeats the recorded
    actions meanwhile, and is reset whenever an episode ends.
    """
    actions, first = log.actions, log.first
    log.actions = []
    lanes.begin(log)
    for offset, action in enumerate(actions):
        if log.each_lane:
            _begin_those(lanes, log, (log.begun == first + offset) & (first + offset > 0))
            lanes.wait(log.begun > first + offset)
        _repeat(lanes, log, action)
    if log.each_lane:
        lanes.wait(np.zeros(lanes.num_envs, bool))
        _begin_those(lanes, log, log.begun == first + len(actions))


def _begin_those(lanes: "GymnasiumLanes", log: ReplayLog, which: np.ndarray) -> None:
    if which.any():
        seeds: list[int | None] = [None] * lanes.num_envs
        for lane in np.flatnonzero(which):
            seeds[lane] = log.seeds_of([lane])[0]
        lanes.reset_some(which, seeds)


def _repeat(lanes: "GymnasiumLanes", log: ReplayLog, action: PyTree) -> None:
    episodes, begun = log.episodes.copy(), log.begun.copy()
    lanes.step(action)
    if log.each_lane:  # the log must not change while lanes wait for their episode to begin
        log.episodes, log.begun = episodes, begun
