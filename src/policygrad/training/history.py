"""How a run came to be what it is: the policy that it began from, and settings changed since."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policygrad.core.errors import UserError
from policygrad.core.shell import user_path
from policygrad.policies.agent import Agent
from policygrad.policies.architectures import BUILT_IN
from policygrad.policies.space_policy import SpacePolicy
from policygrad.runs import storage
from policygrad.runs.policy_files import find, load
from policygrad.training.given import Given


@dataclass(frozen=True)
class History:
    """What `config.json` tells of a run beside its settings.

    Attributes:
        start: the files of the first policy: their path and checksum; None if it was not read.
        changes: what was changed when the run was resumed: the steps it had, and the new settings.
        asked: the settings that were asked for; the others follow from the choices. None for a run
            of an earlier version, which did not record them.
    """

    start: dict[str, Any] | None = None
    changes: tuple[dict[str, Any], ...] = ()
    asked: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data; what there is nothing to say about is left out."""
        told = {"from": self.start, "changes": list(self.changes)}
        asked = {} if self.asked is None else {"asked": list(self.asked)}
        return {name: value for name, value in told.items() if value} | asked

    def after(self, env_steps: int, changed: dict[str, Any]) -> "History":
        """The history of a run that goes on from a checkpoint, with other settings or the same.

        Args:
            env_steps: of the checkpoint. What was changed later holds from there on.
            changed: the settings that are others now.
        """
        made = [{**c, "env_steps": min(c["env_steps"], env_steps)} for c in self.changes]
        if changed:
            made.append({"env_steps": env_steps, "settings": changed})
        asked = None if self.asked is None else tuple(sorted({*self.asked, *changed}))
        return replace(self, changes=tuple(made), asked=asked)

    def since(self, env_steps: int) -> dict[str, Any]:
        """The settings that were changed after a checkpoint was made, so that its state does not
        know of them. A change is made where a run goes on, behind the checkpoint of these steps."""
        found: dict[str, Any] = {}
        for change in self.changes:
            if change["env_steps"] >= env_steps:
                found |= change["settings"]
        return found

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "History":
        """Read back what `to_json` wrote."""
        asked = saved.get("asked")
        changes = tuple(saved.get("changes", ()))
        return cls(saved.get("from"), changes, None if asked is None else tuple(asked))


def read_start(path: str | Path, network: Any = None) -> tuple[Agent, dict[str, Any]]:
    """A saved policy to train on from, and what is recorded of it.

    Args:
        path: a run, a checkpoint or a policy file.
        network: as `load` takes it.

    Raises:
        RunError: there is no policy, or it is damaged.
    """
    path = user_path(path)
    agent = load(path, network=network)
    return agent, {"path": str(path.absolute()), "sha256": checksum_of(path)}


def checksum_of(path: Path) -> str:
    """The checksum of a saved policy's arrays."""
    return storage.read_checked_json(storage.pair(find(path))[1])["sha256"]


def begin_from(start: Any, given: Given) -> tuple[Given, History]:
    """What was given, with the policy of a file in it; and where that came from.

    Raises:
        UserError: a policy was passed too, or `start` is not a path.
        RunError: there is no policy, or it is damaged.
    """
    if start is None:
        return given, History()
    if given.policy is not None:
        raise UserError(
            f"start={str(start)!r} and policy= exclude each other: both are the first policy"
        )
    if isinstance(start, Agent):
        raise UserError("start= takes a run or the path of a policy; pass an agent as policy=agent")
    path = getattr(start, "path", start)  # of a Run
    if path is None:
        raise UserError("start= takes a run that was written to disk; pass policy=run.agent")
    agent, origin = read_start(path, given.network)
    return replace(given, policy=agent), History(origin)


def rebuilds_policy(given: Given) -> bool:
    """Whether a policy that was passed can be rebuilt from a run's files and the other objects."""
    policy = given.plain_policy
    if not isinstance(policy, SpacePolicy):
        return False
    kind = type(policy.architecture)
    return kind in BUILT_IN or type(given.network) is kind
