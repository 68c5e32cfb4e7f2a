"""What can be evaluated: an agent, a run, or a file that holds one."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from policygrad.core.errors import UserError
from policygrad.core.settings import Timeout, check_setting
from policygrad.core.shell import user_path
from policygrad.evaluating.places import Place
from policygrad.policies.agent import Agent
from policygrad.rollout.source import Source
from policygrad.runs import seed_directories, storage
from policygrad.runs.directory import CONFIG
from policygrad.runs.policy_files import load, run_of


@runtime_checkable
class Trained(Protocol):
    """A run that has ended, or that goes on: an agent, and where it is trained."""

    @property
    def agent(self) -> Agent:
        """The policy with its spaces."""
        ...

    @property
    def place(self) -> Place:
        """Where it is trained."""
        ...


Evaluated = Trained | Agent | str | Path


def agent_and_place(run: Evaluated) -> tuple[Agent, Place]:
    """The agent of a run, and where it was trained, as far as that is known.

    Args:
        run: as of `policygrad.evaluate`.

    Raises:
        UserError: it is no run, or a directory of several.
        RunError: a run that is missing or damaged.
    """
    if isinstance(run, Agent):
        return run, Place(None, {})
    if isinstance(run, (str, PathLike)):
        return _saved(str(run))
    if isinstance(run, Trained):
        return run.agent, run.place
    raise UserError(
        "evaluate takes a run, an Agent or a path, got "
        f"{type(run).__name__}; of many seeds pass one run, and in place of a policy the run, "
        "or policygrad.Agent(policy, observation_space, action_space)"
    )


def _saved(run: str) -> tuple[Agent, Place]:
    """The agent of a run on disk, and where it was trained."""
    path = user_path(run)
    if seeds := seed_directories(path):
        raise UserError(
            f"{path} holds the runs of {len(seeds)} seeds; pass one of them, such as {seeds[0]}"
        )
    agent, directory = load(path), run_of(path)
    if directory is None:
        return agent, Place(None, {})
    saved = directory.read_config()
    with storage.rebuilding(directory.path / CONFIG, "does not describe a run"):
        return agent, _place(saved, run)


def _place(saved: dict[str, Any], run: str) -> Place:
    """Where a run was trained, by what `read_config` returned."""
    step_timeout = saved.get("config", {}).get("step_timeout")
    check_setting("step_timeout", Timeout | None, step_timeout)
    return Place(
        saved.get("env"),
        saved.get("env_kwargs") or {},
        _EngineOf(run) if "engine" in saved.get("objects", ()) else None,
        (saved.get("values") or {}).get("env"),
        step_timeout=step_timeout,
    )


@dataclass(frozen=True)
class _EngineOf:
    """In place of the engine of a run on disk, where it was an object: no file holds it."""

    run: str

    def open(self, *_: Any, **__: Any) -> Source:
        """UserError: it must be passed."""
        raise UserError(
            f"{self.run} was trained with an engine passed as an object; evaluate it in Python: "
            f"policygrad.evaluate({self.run!r}, engine=...)"
        )
