"""An environment that was made already, of which others are made by its registration."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from policygrad.core.errors import UserError

LOOKED_AT = 3  # steps after which an attribute that an environment changes has changed
MISSING = object()


def refuse_changed(env: gymnasium.Env, spec: EnvSpec) -> None:
    """Raise UserError for an environment with an attribute that others of its kind do not have so.

    Numbers and text are compared, as far as resets and steps leave them alone.

    Args:
        env: what a user passed, perhaps after changing it.
        spec: makes others.
    """
    ours = _plain(env)
    try:
        theirs = _unchanging(spec)
        differing = [name for name, value in theirs.items() if ours.get(name, MISSING) != value]
        if not differing:
            return
        again = _unchanging(spec)
    except Exception:  # it is raised again, with its place, when the copies are made
        return
    for name in differing:
        if name in again and again[name] == theirs[name]:  # others agree on it
            raise UserError(
                f"the attribute {name} of {env} is {ours.get(name)!r}, and {theirs[name]!r} in the "
                f"copies that {spec.id} makes, which would be trained on; pass a function that "
                "makes the environment and changes it"
            )


def _unchanging(spec: EnvSpec) -> dict[str, Any]:
    """The plain attributes of a fresh environment that a reset and some steps leave alone."""
    env = gymnasium.make(spec, disable_env_checker=True)
    try:
        seen = [_plain(env)]
        env.reset(seed=0)
        seen.append(_plain(env))
        env.action_space.seed(0)
        for _ in range(LOOKED_AT):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            seen.append(_plain(env))
            if terminated or truncated:
                break
    finally:
        env.close()
    first = seen[0]
    return {k: v for k, v in first.items() if all(s.get(k, MISSING) == v for s in seen)}


def _plain(env: gymnasium.Env) -> dict[str, Any]:
    """The attributes of the innermost environment that are numbers or text, without NaN."""
    kinds = (bool, int, float, str, np.number, np.bool_)
    attributes = getattr(env.unwrapped, "__dict__", {})
    return {k: v for k, v in attributes.items() if isinstance(v, kinds) and v == v}
