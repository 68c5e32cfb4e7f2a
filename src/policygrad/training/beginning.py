"""Where a run begins that goes on from a saved policy: in the environment of that policy's run, if
no other is named, and with its arguments."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

from policygrad import environments
from policygrad.core.errors import UserError
from policygrad.core.shell import user_path
from policygrad.runs.policy_files import find, run_of


class Trained(NamedTuple):
    """Where a policy was trained.

    Attributes:
        source: the run or the file that says so, as it was named.
        env: the environment's id; None if no file holds it.
        env_kwargs: its arguments.
        name: the `qualified_name` of a class or function, where it was one.
    """

    source: Any
    env: str | None
    env_kwargs: dict[str, Any]
    name: str | None = None


def trained_in(start: Any) -> Trained | None:
    """Where the policy to begin from was trained; None where its files do not tell.

    Args:
        start: as of `train`.

    Raises:
        RunError: there is no policy, or its run is damaged.
    """
    path = getattr(start, "path", start)  # of a Run
    if not isinstance(path, (str, Path)) or str(path) == "":
        return None  # nothing, or what is refused where the policy is read
    find(user_path(path))
    run = run_of(user_path(path))
    if run is None:
        return None
    saved = run.read_config()
    name = saved.get("values", {}).get("env")
    return Trained(path, saved.get("env"), saved.get("env_kwargs") or {}, name)


def place(
    env: Any, env_kwargs: dict[str, Any] | None, trained: Trained | None
) -> tuple[Any, dict[str, Any]]:
    """The environment to train in and its arguments: those that were given, else those of the run.

    Args:
        env, env_kwargs: as they were given; None where they were not.
        trained: where the policy to begin from was trained, if there is one.

    Raises:
        UserError: there is no environment.

    Warns:
        the run's arguments are not passed to another environment.
    """
    if trained is None and env is None:
        raise UserError("no environment to train in; name one, such as CartPole-v1")
    if trained is None:
        return env, env_kwargs or {}
    if env is None and trained.env is None:
        raise UserError(
            f"no environment to train in: {trained.source} was trained in one that was passed as "
            "an object, which no file holds; pass env="
        )
    own = env is None or environments.is_that_of(env, trained.env, trained.name)
    if env_kwargs is None and trained.env_kwargs and not own:
        told = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
        warnings.warn(
            f"the arguments {trained.env_kwargs} of the environment in {trained.source} are not "
            f"passed to {told}; give env_kwargs (--env-kwargs) to pass some, {{}} for none",
            stacklevel=3,
        )
    kwargs = env_kwargs if env_kwargs is not None else trained.env_kwargs if own else {}
    return trained.env if env is None else env, kwargs
