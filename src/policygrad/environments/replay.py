"""How lanes come back to where they were: reset with recorded seeds, then repeat the actions."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from policygrad.environments.lanes import Lanes

MOST_BYTES = 2**24  # every checkpoint holds them: four million steps of one whole number each


@dataclass
class ReplayLog:
    """How to bring lanes back: reset with the recorded seeds, then repeat the recorded actions.

    Where each lane is reset by itself, a lane needs its running episode alone, and what is older
    than every running episode is dropped. A vector environment that seeds all lanes at once needs
    everything since `start`. A log never holds more than `MOST_BYTES` of actions: beyond, it is
    emptied, and lanes cannot be brought back until all that run have begun after that, which
    needs lanes that are reset by themselves.

    Attributes:
        seed: of `start`; every other seed follows from it.
        each_lane: whether lanes are reset by themselves.
        num_envs: B.
        episodes: `[B]`, how many episodes each lane has begun.
        begun: `[B]`, the step at which its running one began.
        first: the step of the first action still kept.
        actions: the actions since, `[B, ...]` each.
        keeps: False where the environments cannot be brought back, and actions are only counted.
    """

    seed: int
    each_lane: bool
    num_envs: int
    first: int = 0
    actions: list[np.ndarray] = field(default_factory=list)
    keeps: bool = True

    def __post_init__(self) -> None:
        self.episodes = np.ones(self.num_envs, np.int64)
        self.begun = np.zeros(self.num_envs, np.int64)

    def record(self, actions: np.ndarray) -> None:
        """Note the actions of one step."""
        if self.keeps:
            self.actions.append(actions)
        else:
            self.first += 1

    def begin_episodes(self, lanes: np.ndarray) -> list[int]:
        """Note that these lanes begin a new episode; their seeds."""
        self.episodes[lanes] += 1
        self.begun[lanes] = self.first + len(self.actions)
        return self.seeds_of(lanes)

    def seeds_of(self, lanes: Any) -> list[int]:
        """The seeds of the running episodes of these lanes."""
        return [episode_seed(self.seed, lane, int(self.episodes[lane])) for lane in lanes]

    @property
    def complete(self) -> bool:
        """Whether the log still holds all that it takes to bring the lanes back."""
        needed = int(self.begun.min()) if self.each_lane else 0
        return self.keeps and self.first <= needed

    def trim(self) -> None:
        """Drop the actions that no running episode needs, or all where they are too many."""
        if self.each_lane:
            self._drop(int(self.begun.min()) - self.first)
        if self.actions and len(self.actions) * self.actions[0].nbytes > MOST_BYTES:
            self._drop(len(self.actions))
            self.keeps = self.each_lane

    def _drop(self, count: int) -> None:
        count = max(count, 0)
        self.first += count
        del self.actions[:count]


def episode_seed(seed: int, lane: int, episode: int) -> int:
    """A seed for one episode of one lane, the same whatever the other lanes do."""
    sequence = np.random.SeedSequence((int(seed), int(lane), int(episode)))
    return int(sequence.generate_state(1)[0])


def restore(lanes: "Lanes", log: ReplayLog) -> None:
    """Bring lanes to where they were when the log was taken, by replaying it.

    Lanes that began later wait: until its own episode begins, each repeats its actions and is reset
    as soon as it ends, and at its beginning it is reset with its seed.
    """
    actions, first = list(log.actions), log.first
    lanes.start(log.seed)
    if log.each_lane:
        lanes.log = log
        lanes.observations = lanes._reset(seed=log.seeds_of(range(lanes.num_envs)))
    log.actions = []
    for offset, action in enumerate(actions):
        if log.each_lane:
            beginning = (log.begun == first + offset) & (first + offset > 0)
            _restart(lanes, log, beginning)
        _replay(lanes, log, action)
    if log.each_lane:
        _restart(lanes, log, log.begun == first + len(actions))


def _restart(lanes: "Lanes", log: ReplayLog, which: np.ndarray) -> None:
    if which.any():
        seeds: list[int | None] = [None] * lanes.num_envs
        for lane in np.flatnonzero(which):
            seeds[lane] = log.seeds_of([lane])[0]
        lanes.observations = lanes._reset(seed=seeds, options={"reset_mask": which})
        lanes.times[which] = 0


def _replay(lanes: "Lanes", log: ReplayLog, action: np.ndarray) -> None:
    episodes, begun = log.episodes.copy(), log.begun.copy()
    lanes.step(action)
    if log.each_lane:  # what the waiting lanes did meanwhile is not what the log says
        log.episodes, log.begun = episodes, begun
