"""A batch cut into parts, and the CPU devices that compute them.

The number of parts belongs to a run, as its seed does: with another number, sums round differently.
The number of devices belongs to the machine, and changes no bit of a result: if there are fewer
devices than parts, each device computes several parts, one after the other (`devices.parts`).

Each part steps lanes of its own (`devices.parts.roll_parts`) and takes rows of its own through the
networks (`devices.chunks`). Everything else is computed on every device alike. A function that is
computed through `shared` finds its `Sharing` in `current()`; anywhere else a batch is one part.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int, PyTree

from policygrad.core.errors import UserError
from policygrad.devices.starting import processors_allowed

AXIS = "processors"
EVERYWHERE, BY_LANE = PartitionSpec(), PartitionSpec(AXIS)
LEAST_ROWS = 2048  # of a part; with fewer, the exchange costs what sharing gains


class Sharing(NamedTuple):
    """How a batch is shared out. Static.

    Attributes:
        parts: number of parts of equal size that a batch is cut into.
        devices: number of devices that compute the parts, equally many on each.
    """

    parts: int = 1
    devices: int = 1

    @property
    def parts_of_a_device(self) -> int:
        """How many parts each device computes, one after the other."""
        return self.parts // self.devices


class Part(NamedTuple):
    """One part of a batch.

    Attributes:
        number: `[]`, which one it is, from 0.
        parts: how many there are.
    """

    number: Int[Array, ""] | int = 0
    parts: int = 1

    def of(self, tree: PyTree, axis: int = 0) -> PyTree:
        """This part of leaves that hold the rows, or the lanes, of all parts along an axis."""
        if self.parts == 1:
            return tree

        def cut(x: Array) -> Array:
            size = x.shape[axis] // self.parts
            return jax.lax.dynamic_slice_in_dim(x, self.number * size, size, axis)

        return jax.tree.map(cut, tree)


WHOLE, UNSHARED = Part(), Sharing()
_SHARING: ContextVar[Sharing] = ContextVar("sharing", default=UNSHARED)


def parts_for(lanes: int, rows: int) -> int:
    """Into how many parts a new run cuts batches of so many lanes and rows.

    As many as there are processors that this process may use, if each part then gets equally many
    lanes and at least `LEAST_ROWS` rows; fewer otherwise. 1 if JAX computes on a GPU, which one
    part fills. The number of devices that JAX shows does not matter: the command and Python cut
    alike.
    """
    if jax.default_backend() != "cpu":
        return 1
    most = min(processors_allowed(), rows // LEAST_ROWS)
    return max((n for n in range(2, most + 1) if lanes % n == 0), default=1)


def sharing_of(parts: int, lanes: int) -> Sharing:
    """This many parts, on as many of JAX's CPU devices as can compute equally many parts each.

    Args:
        parts: of the run, from `parts_for` or from its files.
        lanes: of its batches.

    Raises:
        UserError: the lanes cannot be cut into so many parts of one size.
    """
    if parts < 1 or lanes % parts:
        raise UserError(
            f"{lanes} environments cannot be cut into {parts} parts of equal size; the number of "
            f"parts must divide the number of environments"
        )
    devices = jax.local_devices()
    shown = len(devices) if devices[0].platform == "cpu" else 1
    return Sharing(parts, max(n for n in range(1, shown + 1) if parts % n == 0))


def shared(function: Callable, sharing: Sharing, in_specs: Any, out_specs: Any) -> Callable:
    """The function, computed on the devices of `sharing`, with batches cut into its parts.

    Args:
        function: of arrays; computed on each device.
        sharing: static.
        in_specs, out_specs: pytree prefixes of the arguments and of the result. `BY_LANE`: leaves
            are `[B, ...]`, and each device holds an equal share of the lanes. `EVERYWHERE`: each
            device holds all of it.
    """

    def inside(*arguments: Any) -> Any:
        with sharing_is(sharing):
            return function(*arguments)

    if sharing.devices == 1:
        return inside
    mesh = Mesh(np.array(jax.local_devices()[: sharing.devices]), (AXIS,))
    return jax.shard_map(inside, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


@contextlib.contextmanager
def sharing_is(sharing: Sharing) -> Iterator[None]:
    """Make `current()` this sharing for all code that is traced within."""
    token = _SHARING.set(sharing)
    try:
        yield
    finally:
        _SHARING.reset(token)


def current() -> Sharing:
    """The sharing of what is being traced; `UNSHARED` outside of `shared`."""
    return _SHARING.get()


def as_one_device(tree: PyTree) -> PyTree:
    """A pytree, with arrays that several devices hold put on one device."""

    def one(x: Any) -> Any:
        several = isinstance(x, jax.Array) and len(x.sharding.device_set) > 1
        return jnp.asarray(np.asarray(x)) if several else x

    return jax.tree.map(one, tree)
