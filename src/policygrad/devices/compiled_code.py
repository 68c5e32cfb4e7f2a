"""Compiled programs: which are ours, when they are freed, and calls from another thread.

Each compiled program holds some memory maps of the process. Linux allows a process 65,530 of them.
Some seventy trainings and diagnoses in one process would use them up, and compiling would then end
the process. Before that happens, the programs of this library's functions are freed. Programs of
other code in the process are never touched.
"""

import gc
import weakref
from collections.abc import Callable
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast

import jax
from jaxtyping import PyTree

from policygrad.core.modules import PolicyShape

P = ParamSpec("P")
T = TypeVar("T")

# the same digits on one processor and on many: products of matrices are then not cut by how many
# threads there are, and are compiled alike in a worker that has one
SAME_EVERYWHERE = {"xla_cpu_multi_thread_eigen": False}

MAPS = Path("/proc/self/maps")
LIMIT = Path("/proc/sys/vm/max_map_count")
_OURS: weakref.WeakSet[Any] = weakref.WeakSet()


def compiled(function: Callable[P, T], **options: Any) -> Callable[P, T]:
    """`jax.jit` of a function of this library, whose programs `free_compiled_code` frees.

    Args:
        function: of arrays, and of arguments that the options name as static.
        options: as `jax.jit` takes them.
    """
    program = jax.jit(function, **options)
    _OURS.add(program)
    return program


class ForModules(Generic[P, T]):
    """A compiled function of arguments, and with results, whose leaves are not all arrays.

    A module may hold functions among its leaves. Every leaf that is not an array is static: it must
    be hashable, and another value compiles another program.

    Args:
        function: of pytrees.
        options: as `jax.jit` takes them.
    """

    def __init__(self, function: Callable[P, T], **options: Any) -> None:
        def on_arrays(shape: PolicyShape, arrays: tuple[Any, ...]) -> "_Result":
            args, kwargs = cast(Any, shape.policy(arrays))
            return _Result.of(cast(Any, function)(*args, **kwargs))

        on_arrays.__name__ = getattr(function, "__name__", "on_arrays")
        self._program: Any = compiled(on_arrays, static_argnums=0, **options)
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        arguments: Any = args, kwargs
        shape = PolicyShape.of(arguments)
        return self._program(shape, shape.arrays(arguments)).value()

    def compile_for(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Compile for such arguments, without computing; returns the shapes of the results. Shapes
        may be in place of arrays (`jax.ShapeDtypeStruct`). A call that follows compiles nothing."""
        arguments: Any = args, kwargs
        shape = PolicyShape.of(arguments)
        arrays = shape.arrays(arguments)
        self._program.lower(shape, arrays).compile()
        return jax.eval_shape(partial(self._program, shape), arrays).value()


def compiled_for_modules(function: Callable[P, T], **options: Any) -> ForModules[P, T]:
    """`compiled`, for arguments and results with leaves that are not arrays."""
    return ForModules(function, **options)


@jax.tree_util.register_pytree_node_class
class _Result:
    """A pytree that a compiled function may return, whatever its leaves are."""

    def __init__(self, shape: PolicyShape, arrays: tuple[Any, ...]) -> None:
        self.shape, self.arrays = shape, arrays

    @classmethod
    def of(cls, value: PyTree) -> "_Result":
        shape = PolicyShape.of(value)
        return cls(shape, shape.arrays(value))

    def value(self) -> Any:
        return self.shape.policy(self.arrays)

    def tree_flatten(self) -> tuple[tuple[Any, ...], PolicyShape]:
        return self.arrays, self.shape

    @classmethod
    def tree_unflatten(cls, shape: PolicyShape, arrays: tuple[Any, ...]) -> "_Result":
        return cls(shape, arrays)


def memory_maps_are_scarce(share: float) -> bool:
    """Whether this process holds more than a share of the memory maps that the system allows it.

    False if the system does not report memory maps.
    """
    try:
        held, limit = MAPS.read_bytes().count(b"\n"), int(LIMIT.read_text())
    except (OSError, ValueError):
        return False
    return held > share * limit


def free_compiled_code(share: float = 0.5) -> None:
    """Free the programs of this library's functions if memory maps are scarce.

    A function that is called again is compiled again.
    """
    if memory_maps_are_scarce(share):
        for program in list(_OURS):
            program.clear_cache()
        gc.collect()


def for_another_thread(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call with this thread's precision, which another thread does not inherit."""
    x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    def run(*arguments: Any) -> Any:
        with jax.enable_x64(x64):
            return call(*arguments)

    return run
