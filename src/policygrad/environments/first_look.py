"""A first look at an environment, which tells whether it gives masks of actions."""

import contextlib
from collections.abc import Callable
from typing import Any

import gymnasium

from policygrad.environments import masks
from policygrad.environments.deadline import Deadline, Overrun, can_interrupt
from policygrad.environments.mask_forms import Masks
from policygrad.environments.other_names import other_masks
from policygrad.environments.sharing import parts_of

LONGEST_CLOSE = 3.0  # seconds, of an environment that was made to look for masks


def looked_at(
    make: Callable[[], Any], begin: Callable[[], None], env: Any
) -> tuple[Masks, list[str]]:
    """The masks that an environment gives once it is reset, and what looks like others.

    Another one is reset in its place, so that wrappers that count or record its episodes do not
    miss the first; the environment itself only if no other can be made.

    Args:
        make: makes another one.
        begin: called before the reset.
        env: the environment.
    """
    try:
        other = make()
    except (Exception, SystemExit):
        other = env
    mine = set(map(id, parts_of(env)))
    shared = any(id(part) in mine for part in parts_of(other))
    while isinstance(other, gymnasium.wrappers.RecordVideo):  # this is no episode to record
        other = other.env
    begin()
    try:
        returned = other.reset(seed=0)
        info = returned[-1] if isinstance(returned, tuple) else None
        given = masks.of_info(info)
        if not given:
            given = {name: _called(method) for name, method in masks.methods(other).items()}
        return given, [] if given else other_masks(other, info, env.action_space)
    except (Exception, SystemExit):
        return {}, []  # it is raised again, with its place, when the lanes are started
    finally:
        if not shared:
            _close_quietly(other)


def _called(method: Callable[[], Any]) -> Any:
    """What a method returns; None if it raises, which it will do again."""
    try:
        return method()
    except (Exception, SystemExit):
        return None


def _close_quietly(env: Any) -> None:
    """Close an environment that nobody has seen; one that hangs is left."""
    limit = Deadline(LONGEST_CLOSE) if can_interrupt() else contextlib.nullcontext()
    with contextlib.suppress(Exception, SystemExit, Overrun), limit:
        env.close()
