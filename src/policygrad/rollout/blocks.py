"""Blocks of lanes: a fixed number of lanes that are collected by themselves, here or elsewhere.

The lanes of a run are cut into blocks of equal size. Shapes, keys and the order of sums are those
of a block. So a record is the same bit for bit wherever each block is collected: one after the
other in this process, or by any number of workers. Records are put side by side in the order of the
blocks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.core.errors import UserError
from policygrad.core.modules import PolicyShape
from policygrad.core.trajectories import Trajectories
from policygrad.environments.lanes import LaneMethods
from policygrad.environments.sharing import refuse_shared
from policygrad.policies.meeting import Policy
from policygrad.rollout.collectors import Collector
from policygrad.rollout.engines import open_source
from policygrad.rollout.source import Source, episodes_of

EPISODES_APART = 2**20  # numbers of lanes between two blocks of whole episodes, if they are few
MOST_LANES = 2**31 - 1
USUAL_BLOCKS = 8


def usual_lanes(num_envs: int) -> int:
    """Lanes of a block where nobody chose: as many as make eight blocks, or a few more.

    >>> usual_lanes(16), usual_lanes(4), usual_lanes(100)
    (2, 1, 10)
    """
    return max(n for n in range(1, max(1, num_envs // USUAL_BLOCKS) + 1) if num_envs % n == 0)


@dataclass(frozen=True)
class Lanes:
    """What opens the lanes of each block.

    Attributes:
        env: as `open_source` takes it, but nothing that is open already.
        num_envs: lanes of all blocks.
        lanes: of one block.
        kwargs, step_timeout: as of `open_source`.
    """

    env: Any
    num_envs: int
    lanes: int
    kwargs: dict[str, Any]
    step_timeout: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.env, (VectorEnv, LaneMethods, Source)):
            raise UserError(
                f"env={type(self.env).__name__} is open already, and blocks of lanes are opened "
                "one by one; pass an id or a function that makes a Gymnasium environment, or leave "
                "lanes_per_block and workers out"
            )

    @property
    def blocks(self) -> int:
        """Their number."""
        return self.num_envs // self.lanes

    def open(self, block: int, *, whole_episodes: bool = False) -> Source:
        """The environments of a block."""
        apart = min(EPISODES_APART, MOST_LANES // self.blocks) if whole_episodes else self.lanes
        return open_source(
            self.env, self.lanes, kwargs=self.kwargs, first_lane=block * apart,
            step_timeout=self.step_timeout,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What every block collects; plain data that can be sent.

    Attributes:
        lanes: what opens the environments.
        policy: for its structure, with NumPy arrays.
        key: data of the key of the environments.
        steps: T of a segment; None for whole episodes.
        max_steps: cap on the length of an episode.
        keep_unfinished, group_size, with_greedy: as of `Source.episodes`.
    """

    lanes: Lanes
    policy: Policy
    key: np.ndarray
    steps: int | None = None
    max_steps: int = 0
    keep_unfinished: bool = False
    group_size: int = 1
    with_greedy: bool = False

    def begin(self, block: int) -> "Block":
        """A block, with its environments open."""
        source = self.lanes.open(block, whole_episodes=self.steps is None)
        key, shape = key_of(self.key), PolicyShape.of(self.policy)
        if self.steps is not None:
            return Block(shape, source, source.segments(self.policy, key, self.steps))
        collector = episodes_of(
            source, self.policy, key, self.group_size, self.max_steps,
            keep_unfinished=self.keep_unfinished, group_size=self.group_size,
            with_greedy=self.with_greedy,
        )  # fmt: skip
        return Block(shape, source, collector)


@dataclass(frozen=True)
class Call:
    """One batch that is asked for; plain data that can be sent.

    Attributes:
        arrays: of the policy that acts.
        key: data of the key of the batch.
        episodes: of each block; None for segments.
    """

    arrays: tuple[np.ndarray, ...]
    key: np.ndarray
    episodes: tuple[int, ...] | None = None


class Block:
    """A block of lanes that is open."""

    def __init__(self, shape: PolicyShape, source: Source, collector: Collector) -> None:
        self._shape, self._source, self._collector = shape, source, collector

    @property
    def environments(self) -> list[Any]:
        """The environments that are objects of this process."""
        vector = getattr(getattr(self._source, "lanes", None), "vector", None)
        return list(getattr(vector, "envs", ()))

    def collect(self, call: Call, number: int) -> Trajectories | None:
        """The block's part of a batch, as NumPy arrays; None for no episodes."""
        policy, key = self._shape.policy(call.arrays), key_of(call.key)
        if call.episodes is None:
            return jax.device_get(self._collector.collect(policy, key))
        count = call.episodes[number]
        return jax.device_get(self._collector.collect(policy, key, count)) if count else None

    def snapshot(self) -> PyTree:
        """NumPy arrays from which `restore` brings the lanes back."""
        return jax.device_get(self._collector.snapshot())

    def restore(self, snapshot: PyTree) -> bool:
        """Bring the lanes back; False if they begin fresh episodes."""
        return self._collector.restore(snapshot)

    def infos(self) -> dict[str, Any]:
        """The tally of the numbers in infos, as plain data."""
        return self._collector.infos_state()

    def restore_infos(self, state: dict[str, Any]) -> None:
        """Go on from what `infos` returned."""
        self._collector.restore_infos(state)

    def close(self) -> None:
        """Release the environments."""
        self._collector.close()
        self._source.close()


def refuse_one_object(blocks: Iterable[Block]) -> None:
    """UserError where blocks in one process step one object."""
    refuse_shared([env for block in blocks for env in block.environments])


class Places(Protocol):
    """Where blocks are: each call reaches all of them, and answers come in their order."""

    def begin(self, plan: Plan) -> None:
        """Open every block."""
        ...

    def collect(self, call: Call) -> list[Trajectories | None]:
        """The part of each block."""
        ...

    def snapshots(self) -> list[PyTree]:
        """Of each block."""
        ...

    def restore(self, snapshots: Sequence[PyTree]) -> bool:
        """Bring every block back; False if any begins fresh episodes."""
        ...

    def infos(self) -> list[dict[str, Any]]:
        """The tally of each block."""
        ...

    def restore_infos(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from what `infos` returned; called before `restore`."""
        ...

    @property
    def exact(self) -> bool:
        """Whether every block was always brought back to where it was."""
        ...

    def take_afresh(self) -> set[int]:
        """The blocks that have begun fresh episodes by themselves since this was last called."""
        ...

    def metrics(self) -> dict[str, float]:
        """Of the places themselves, at the newest batch."""
        ...

    def close(self) -> None:
        """Close every block."""
        ...


@runtime_checkable
class Elsewhere(Protocol):
    """What makes places for the blocks of a run, such as `policygrad.remote(workers=4)`."""

    def places(self) -> Places:
        """New places; nothing is started before they begin a plan."""
        ...


class Here:
    """Blocks in this process, collected one after the other."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []

    def begin(self, plan: Plan) -> None:
        for number in range(plan.lanes.blocks):  # one by one: all that are open can be closed
            self._blocks.append(plan.begin(number))
        refuse_one_object(self._blocks)

    def collect(self, call: Call) -> list[Trajectories | None]:
        return [block.collect(call, number) for number, block in enumerate(self._blocks)]

    def snapshots(self) -> list[PyTree]:
        return [block.snapshot() for block in self._blocks]

    def restore(self, snapshots: Sequence[PyTree]) -> bool:
        pairs = zip(self._blocks, snapshots, strict=True)
        exact = [block.restore(snapshot) for block, snapshot in pairs]
        return all(exact)

    def infos(self) -> list[dict[str, Any]]:
        return [block.infos() for block in self._blocks]

    def restore_infos(self, states: Sequence[dict[str, Any]]) -> None:
        for block, state in zip(self._blocks, states, strict=True):
            block.restore_infos(state)

    exact = True

    def take_afresh(self) -> set[int]:
        return set()

    def metrics(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        for block in self._blocks:
            block.close()


def plain(arrays: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """Arrays of a policy as NumPy's, which can be sent."""
    return tuple(np.asarray(x) for x in arrays)


def key_data(key: PRNGKeyArray) -> np.ndarray:
    """The data of a key, which can be sent."""
    return np.asarray(jax.random.key_data(key))


def key_of(data: np.ndarray) -> PRNGKeyArray:
    """The key whose data was sent."""
    return jax.random.wrap_key_data(jnp.asarray(data))


def shares(count: int, parts: int) -> tuple[int, ...]:
    """So many in parts that differ by one at most, the larger ones first.

    >>> shares(7, 3)
    (3, 2, 2)
    """
    return tuple(count // parts + (part < count % parts) for part in range(parts))
