"""What work on another thread needs of the one that asked for it."""

from collections.abc import Callable
from typing import Any

import jax


def for_another_thread(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call with this thread's precision, which another thread does not inherit."""
    x64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    def run(*arguments: Any) -> Any:
        with jax.enable_x64(x64):
            return call(*arguments)

    return run
