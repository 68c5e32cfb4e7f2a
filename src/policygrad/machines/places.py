"""Blocks of lanes in Ray's workers.

What a worker is asked for depends on the blocks alone, so that any number of workers gives the same
records. From time to time the state of every block comes back with its part of a batch. Where a
worker dies, another one begins its blocks from that state, repeats the batches since, and goes on.
"""

import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.machines.cluster import Cluster
from policygrad.machines.crew import Crew, Request
from policygrad.machines.remote import Remote
from policygrad.machines.worker import Worker
from policygrad.processes.sending import Sent
from policygrad.rollout.blocks import Block, Call, Plan, refuse_one_object

STATE_EVERY = 16  # batches from one state that comes back to the next


class Part(NamedTuple):
    """A block's part of a batch.

    Attributes:
        record: None for no episodes.
        digest: of the record.
        state: of the block after it; None where it was not asked for.
        infos: the tally of the block after it.
        seconds: that it took.
    """

    record: Trajectories | None
    digest: int
    state: PyTree
    infos: dict[str, Any]
    seconds: float


@dataclass
class Memory:
    """What brings a block back.

    Attributes:
        state: of its lanes; None where they are as they begin.
        infos: its tally at the same time.
        digests: of its parts of the batches since.
    """

    state: PyTree = None
    infos: dict[str, Any] = field(default_factory=dict)
    digests: list[int] = field(default_factory=list)


class Back(NamedTuple):
    """A block that was brought back.

    Attributes:
        exact: whether its lanes are where they were.
        memory: what they are now.
    """

    exact: bool
    memory: Memory


# What workers do. Each function is given the worker, and returns an answer for every block.


def begin(
    worker: Worker, plan: Plan, memories: dict[int, Memory], since: Sequence[Call]
) -> dict[int, Back]:
    """Open blocks, and bring them to where they were."""
    for number in memories:
        worker.held[number] = plan.begin(number)
    refuse_one_object(worker.held[number] for number in sorted(worker.held))
    return bring_back(worker, plan, memories, since)


def bring_back(
    worker: Worker, plan: Plan, memories: dict[int, Memory], since: Sequence[Call]
) -> dict[int, Back]:
    """Bring blocks to what is remembered, and repeat the batches since."""
    found = {}
    for number, memory in memories.items():
        block: Block = worker.held[number]
        if memory.infos:
            block.restore_infos(memory.infos)
        exact = memory.state is None or block.restore(memory.state)
        if exact:  # a fresh episode is no place to repeat a batch from
            digests = [digest_of(block.collect(call, number)) for call in since]
            exact = digests == memory.digests
            if not exact:  # nor do the lanes go on in the middle of other episodes
                block.close()
                block = worker.held[number] = plan.begin(number)
        found[number] = Back(exact, _memory_of(block))
    return found


def collect(
    worker: Worker, call: Call, numbers: Sequence[int], with_states: bool
) -> dict[int, Part]:
    """The part of each block."""
    found = {}
    for number in numbers:
        started, block = time.perf_counter(), worker.held[number]
        record = block.collect(call, number)
        state = block.snapshot() if with_states else None
        parts = record, digest_of(record), state, block.infos()
        found[number] = Part(*parts, time.perf_counter() - started)
    return found


def memories(worker: Worker, numbers: Sequence[int]) -> dict[int, Memory]:
    """What each block is now."""
    return {number: _memory_of(worker.held[number]) for number in numbers}


def nothing(worker: Worker, numbers: Sequence[int]) -> dict[int, None]:
    """An answer for blocks that need not be brought back, since they have not begun."""
    return dict.fromkeys(numbers)


def _memory_of(block: Block) -> Memory:
    return Memory(block.snapshot(), block.infos())


def digest_of(record: PyTree) -> int:
    """A checksum that tells two records apart."""
    found = 0
    for leaf in jax.tree.leaves(record):
        found = zlib.crc32(np.ascontiguousarray(leaf).data, found)
    return found


class RayPlaces:
    """Blocks in workers of Ray's; see `rollout.blocks.Places`.

    Args:
        remote: the workers that were asked for.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._cluster: Any = None
        self._crew: Any = None
        self._plan: Any = None
        self._memories: dict[int, Memory] = {}
        self._since: list[Call] = []
        self._tallies: list[dict[str, Any]] = []
        self._inexact, self._transport = 0, 0.0
        self._afresh: set[int] = set()

    def begin(self, plan: Plan) -> None:
        """Start the workers, and open every block in one of them."""
        lanes, wanted = plan.lanes, self._remote.workers
        if wanted > lanes.blocks:
            raise UserError(
                f"--workers {wanted} are more than the {lanes.blocks} blocks of lanes "
                f"(--num-envs {lanes.num_envs} in blocks of --lanes-per-block {lanes.lanes}); ask "
                f"for at most {lanes.blocks} workers, or for smaller blocks"
            )
        for name, value in (
            ("env", lanes.env),
            ("env_kwargs", lanes.kwargs),
            ("policy", plan.policy),
        ):
            Sent.by_content(name, value)  # alone, so that the error names it
        self._plan = plan
        self._memories = {number: Memory() for number in range(lanes.blocks)}
        self._tallies = [{} for _ in self._memories]
        self._cluster = Cluster(self._remote.address)
        try:
            self._crew = Crew(self._cluster, self._remote)
            for number in self._memories:
                self._crew.hands[number % wanted].duties.append(number)
            begun = self._crew.ask(self._opening, lambda numbers: (nothing, (numbers,)))
        except BaseException:
            self.close()
            raise
        self._remember({number: back.memory for number, back in begun.items()})

    def _opening(self, numbers: Sequence[int]) -> Request:
        mine = {number: self._memories[number] for number in numbers}
        return begin, (self._plan, mine, self._since)

    def _ask(self, request: Callable[[Sequence[int]], Request]) -> dict[int, Any]:
        """What every block answers; those of a lost worker are brought back first."""
        answers = self._crew.ask(request, self._opening, repeats=len(self._since))
        inexact = [number for number, back in self._crew.brought.items() if not back.exact]
        if inexact:
            self._inexact += len(inexact)
            self._afresh.update(inexact)
            warnings.warn(
                f"the environments of {len(inexact)} blocks could not be brought back to where "
                "they were, and began fresh episodes; this run differs from one that lost no "
                "worker",
                stacklevel=2,
            )
        return answers

    def collect(self, call: Call) -> list[Trajectories | None]:
        """The part of each block."""
        started, inexact = time.perf_counter(), self._inexact
        sent = self._cluster.ray.put(call)
        segments = self._plan.steps is not None  # whole episodes begin afresh in every batch
        with_states = segments and len(self._since) + 1 >= STATE_EVERY
        parts = self._ask(lambda numbers: (collect, (sent, numbers, with_states)))
        self._tallies = [parts[number].infos for number in self._memories]
        if with_states or not segments:
            self._remember({n: Memory(part.state, part.infos) for n, part in parts.items()})
        elif self._inexact > inexact:  # the batches before do not lead to these lanes any more
            self._look()
        else:
            self._since.append(call)
            for number, memory in self._memories.items():
                memory.digests.append(parts[number].digest)
        computed = max(sum(parts[n].seconds for n in hand.duties) for hand in self._crew.hands)
        self._transport = time.perf_counter() - started - computed
        return [parts[number].record for number in self._memories]

    def _remember(self, memories: Mapping[int, Memory]) -> None:
        # copies: what Ray returned are views of its store
        self._memories = {
            number: Memory(jax.tree.map(np.array, memory.state), memory.infos)
            for number, memory in sorted(memories.items())
        }
        self._since = []

    def _look(self) -> None:
        self._remember(self._ask(lambda numbers: (memories, (numbers,))))

    def snapshots(self) -> list[PyTree]:
        """The state of each block."""
        self._look()
        return [memory.state for memory in self._memories.values()]

    def restore(self, snapshots: Sequence[PyTree]) -> bool:
        """Bring every block back; False if any begins fresh episodes."""
        given = zip(self._memories, snapshots, self._tallies, strict=True)
        self._remember({number: Memory(state, tally) for number, state, tally in given})
        wanted, plan = self._memories, self._plan
        found = self._ask(lambda numbers: (bring_back, (plan, {n: wanted[n] for n in numbers}, ())))
        self._remember({number: back.memory for number, back in found.items()})
        return all(back.exact for back in found.values())

    def infos(self) -> list[dict[str, Any]]:
        """The tally of each block."""
        return self._tallies

    def restore_infos(self, states: Sequence[dict[str, Any]]) -> None:
        """What `restore` is to bring the tallies to."""
        self._tallies = list(states)

    @property
    def exact(self) -> bool:
        """Whether no lost worker has changed the run."""
        return self._inexact == 0

    def take_afresh(self) -> set[int]:
        """The blocks that have begun fresh episodes by themselves since this was last called."""
        blocks, self._afresh = self._afresh, set()
        return blocks

    def metrics(self) -> dict[str, float]:
        """How many workers were replaced, how many blocks began afresh with them, and the seconds
        of the newest batch in which no block was computed."""
        return {
            "worker_restarts": 0 if self._crew is None else self._crew.restarts,
            "inexact_restarts": self._inexact,
            "transport_seconds": self._transport,
        }

    def close(self) -> None:
        """End the workers, and Ray where it was started here."""
        if self._crew is not None:
            self._crew.close()
        if self._cluster is not None:
            self._cluster.close()
