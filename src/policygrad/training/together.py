"""Seeds that are trained together, in one program on one processor."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from policygrad.core.modules import is_array
from policygrad.rollout.collectors import SegmentProgram
from policygrad.training.loop import Training
from policygrad.training.programs import StateAndLanes, run_updates
from policygrad.training.report import UpdateReport

T = TypeVar("T")  # a pytree, or an item of a list


@dataclass
class Group:
    """Seeds that are trained in one program, on one processor.

    A program works in chunks that fit the near cache of one processor, and does not use a second
    one. So each processor runs its own program, in its own thread.
    """

    trainings: list[Training]
    program: SegmentProgram
    keys: PRNGKeyArray
    carried: StateAndLanes

    @classmethod
    def of(cls, trainings: list[Training], program: SegmentProgram) -> "Group":
        """The group of some seeds, with the state that each has now."""
        keys = jnp.stack([t.assembly.keys.updates for t in trainings])
        start = [StateAndLanes(t.progress.state, t.assembly.collector.lanes) for t in trainings]
        return cls(trainings, program, keys, stacked(start))

    def run(self, count: int) -> UpdateReport:
        """`count` updates of every seed; their reports, on the host."""
        first = self.trainings[0].assembly
        self.carried, reports = run_updates(
            first.learner, self.program, first.spaces, first.sharing, self.keys,
            self.carried, jnp.asarray(count, jnp.int32), first.config.monitor_every,
        )  # fmt: skip
        return jax.device_get(reports)

    def dealt_out(
        self, rows: UpdateReport, count: int
    ) -> Iterator[tuple[Training, StateAndLanes, list[UpdateReport]]]:
        """Each seed, with its state after the program and its reports."""
        carried = on_host(self.carried)
        for i, training in enumerate(self.trainings):
            mine = [jax.tree.map(lambda x, i=i, n=n: x[n, i], rows) for n in range(count)]
            yield training, one_of(carried, i), mine

    def hand_back(self) -> None:
        """Give each seed its own arrays."""
        carried = on_host(self.carried)
        for i, training in enumerate(self.trainings):
            training.take(on_device(one_of(carried, i)))


def dealt(items: list[T], parts: int) -> list[list[T]]:
    """Items in order, in at most so many runs of nearly equal length."""
    parts = min(parts, len(items))
    edges = [len(items) * i // parts for i in range(parts + 1)]
    return [items[a:b] for a, b in itertools.pairwise(edges)]


def stacked(trees: list[T]) -> T:
    """Pytrees of one structure as one, with a leading axis over them."""
    arrays, rest = zip(*[eqx.partition(tree, eqx.is_array) for tree in trees], strict=True)

    def stack(*x: Array) -> Array:  # on the host: one dispatch a leaf and seed would be slow
        return jnp.stack(x) if is_key(x[0]) else jnp.asarray(np.stack(x))

    return eqx.combine(jax.tree.map(stack, *arrays), rest[0])


def one_of(tree: T, i: int) -> T:
    """The i-th of stacked pytrees."""
    return jax.tree.map(lambda x: x[i, ...] if is_array(x) else x, tree)


def on_host(tree: T) -> T:
    """Arrays other than random keys as NumPy's, of which thousands of slices cost nothing."""
    return jax.tree.map(lambda x: np.asarray(x) if eqx.is_array(x) and not is_key(x) else x, tree)


def on_device(tree: T) -> T:
    """NumPy's arrays as JAX's."""
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, tree)


def is_key(x: Array) -> bool:
    """Whether an array holds typed random keys, a type that NumPy does not have."""
    return jnp.issubdtype(x.dtype, jax.dtypes.extended)
