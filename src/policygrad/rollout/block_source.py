"""Lanes in blocks as a source of batches: the parts of all blocks are put side by side."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray, PyTree

from policygrad.core.modules import PolicyShape
from policygrad.core.trajectories import Trajectories, join_lanes
from policygrad.policies.meeting import Policy
from policygrad.rollout.blocks import Call, Here, Lanes, Places, Plan, key_data, plain, shares
from policygrad.rollout.collectors import Collector, require_no_episodes, require_whole_groups
from policygrad.rollout.info_tally import means_over
from policygrad.rollout.play import Played
from policygrad.rollout.source import Source


class BlockSource:
    """Lanes in blocks, as a source of batches.

    Args:
        lanes: what opens them.
        places: where the blocks are; None for this process.

    Attributes:
        lanes: as given.
        info_names: of the numbers in records.
    """

    def __init__(self, lanes: Lanes, places: Places | None = None) -> None:
        self.lanes, self._places = lanes, places or Here()
        self._one = lanes.open(0)  # for what it is, and for evaluation
        self.observation_space, self.action_space = (
            self._one.observation_space,
            self._one.action_space,
        )
        self.time_limit, self.pure = self._one.time_limit, self._one.pure
        self.num_envs = lanes.num_envs
        self.info_names: tuple[str, ...] = tuple(getattr(self._one, "info_names", ()))

    def segments(self, policy: Policy, key: PRNGKeyArray, steps: int) -> "BlockCollector":
        """Segments of T steps of the lanes. The key is consumed."""
        return BlockCollector(self._places, self._plan(policy, key, steps=steps), self._one)

    def episodes(
        self,
        policy: Policy,
        key: PRNGKeyArray,
        episodes: int,
        max_steps: int,
        *,
        keep_unfinished: bool = False,
        group_size: int = 1,
        with_greedy: bool = False,
    ) -> "BlockCollector":
        """Whole episodes, dealt out evenly to the blocks and begun afresh for every batch."""
        plan = self._plan(
            policy, key, max_steps=max_steps, keep_unfinished=keep_unfinished,
            group_size=group_size, with_greedy=with_greedy,
        )  # fmt: skip
        return BlockCollector(self._places, plan, self._one, episodes)

    def _plan(self, policy: Policy, key: PRNGKeyArray, **batch: Any) -> Plan:
        return Plan(self.lanes, jax.device_get(policy), key_data(key), **batch)

    def play(
        self,
        policy: Policy,
        key: PRNGKeyArray,
        *,
        episodes: int,
        max_steps: int,
        greedy: bool,
    ) -> Played:
        """The outcome of N episodes, in the lanes of one block. The key is consumed."""
        return self._one.play(policy, key, episodes=episodes, max_steps=max_steps, greedy=greedy)

    def close(self) -> None:
        """Release the environments."""
        self._one.close()
        self._places.close()


class BlockCollector(Collector):
    """Fills batches from blocks.

    Args:
        places: where the blocks are.
        plan: what each collects.
        beside: environments that are open beside the blocks, and closed with them.
        episodes: of a batch; None for segments.
    """

    def __init__(
        self, places: Places, plan: Plan, beside: Source, episodes: int | None = None
    ) -> None:
        self.whole_episodes = episodes is not None
        self._places, self._plan, self._beside = places, plan, beside
        self._episodes, self._shape = episodes, PolicyShape.of(plan.policy)
        places.begin(plan)

    def collect(
        self, policy: Policy, key: PRNGKeyArray, episodes: int | None = None
    ) -> Trajectories:
        arrays, dealt = plain(self._shape.arrays(policy)), None
        if self._episodes is None:
            require_no_episodes(episodes)
        else:
            count, size = episodes or self._episodes, self._plan.group_size
            require_whole_groups(count, size)
            dealt = tuple(size * n for n in shares(count // size, self._plan.lanes.blocks))
        parts = self._places.collect(Call(arrays, key_data(key), dealt))
        return join_lanes([part for part in parts if part is not None])

    def snapshot(self) -> PyTree:
        return tuple(self._places.snapshots())

    def restore(self, snapshot: PyTree) -> bool:
        return self._places.restore(snapshot)

    def infos(self) -> dict[str, float]:
        return means_over(self._places.infos())

    def metrics(self) -> dict[str, float]:
        return self._places.metrics()

    @property
    def exact(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._places.exact

    def infos_state(self) -> dict[str, Any]:
        states = self._places.infos()
        return {"blocks": states} if any(states) else {}

    def restore_infos(self, state: dict[str, Any]) -> None:
        if state:
            self._places.restore_infos(state["blocks"])

    def take_afresh(self) -> Bool[np.ndarray, " B"] | None:
        blocks, lanes = self._places.take_afresh(), self._plan.lanes
        if self.whole_episodes or not blocks:
            return None
        return np.isin(np.arange(lanes.num_envs) // lanes.lanes, list(blocks))

    def close(self) -> None:
        self._beside.close()
        self._places.close()
