"""A run's state on disk: everything that resuming needs, as named arrays and JSON."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from policygrad.algorithms.learner import LearnerState
from policygrad.algorithms.reward_scale import RewardScale
from policygrad.core.errors import RunError, UserError
from policygrad.gradients.weights import EstimatorState
from policygrad.policies.meeting import Policy
from policygrad.runs import RunDirectory, storage
from policygrad.runs.policy_files import check_class, policy_to_files
from policygrad.training.adaptive_batch import AdaptiveBatch
from policygrad.training.assembly import Assembly
from policygrad.training.changes import begin_anew
from policygrad.training.config import TrainConfig
from policygrad.training.programs import TrainState


@dataclass
class Progress:
    """What changes from update to update.

    Attributes:
        state: what an update passes to the next one.
        batch: the size of the next batch, if sizes adapt.
        env_steps, seconds: totals so far.
        resumed_exactly: whether the environments came back to where they were; None for a run that
            was never resumed.
        numbers: those of the algorithm and the estimator that callbacks have set, by name.
        exact: whether the run so far is the one that nothing would have interrupted.
        saved_at: the update whose state the newest checkpoint holds; None where a number was set
            since, and before the first.
    """

    state: TrainState
    batch: AdaptiveBatch | None = None
    env_steps: int = 0
    seconds: float = 0.0
    resumed_exactly: bool | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    exact: bool = True
    saved_at: int | None = None

    @classmethod
    def fresh(cls, assembly: Assembly) -> "Progress":
        """The progress before the first update."""
        return cls(assembly.fresh(), assembly.fresh_batch())

    @property
    def updates(self) -> int:
        """How many updates were made."""
        return int(self.state.learner.updates)


def policy_files(assembly: Assembly, policy: Policy) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of a policy, and the JSON from which its structure is rebuilt."""
    source = assembly.source
    return policy_to_files(policy, source.observation_space, source.action_space)


def save(assembly: Assembly, progress: Progress, directory: RunDirectory) -> None:
    """Write a checkpoint, unless the newest holds this state."""
    if progress.saved_at == progress.updates:
        return
    learner = progress.state.learner
    arrays, data = policy_files(assembly, learner.policy)
    environments = assembly.collector.snapshot()
    progress.exact = progress.exact and assembly.collector.exact
    for prefix, tree in _trees(progress, environments).items():
        arrays |= storage.to_arrays(tree, prefix)
    data |= {"env_steps": progress.env_steps, "seconds": progress.seconds}
    data["numbers"], data["exact"] = progress.numbers, progress.exact
    data["infos"] = assembly.collector.infos_state()
    if assembly.info_names:
        data["info_names"] = list(assembly.info_names)
    keep = assembly.config.keep_checkpoints
    directory.save_checkpoint(progress.env_steps, arrays, data, keep)
    progress.saved_at = progress.updates


def _trees(progress: Progress, environments: Any) -> dict[str, Any]:
    """What is saved beside the policy, by the prefix of its names."""
    state = progress.state
    return {
        "state": state.learner._replace(policy=None),
        "environments": environments,
        "episodes": state.tally._replace(infos=None),
        "infos": state.tally.infos,
        "last_gradient": state.last_gradient,
        "batch": progress.batch,
    }


OWNERS = {
    "policy": "policy or network",
    "state/improver/optimiser": "optimiser",
    "state/improver/step_size": "optimiser",
    "state/improver": "algorithm",
    "state/estimator/critic": "critic",
    "state/estimator/baseline": "baseline",
    "state/estimator": "estimator",
    "last_gradient": "policy or network",
    "batch": "algorithm",
}


def owner_of(name: str) -> str:
    """What an array of a checkpoint is of, by its name. Lanes, episodes, what their infos hold and
    the running scale of their rewards are the environment's."""
    return next((of for prefix, of in OWNERS.items() if name.startswith(prefix)), "environment")


def check_steps_left(directory: RunDirectory, total_steps: int, at: Path | None = None) -> int:
    """The steps of a run's checkpoint, by default the newest; UserError if the run has them all."""
    if at is None and not directory.has_begun:
        return 0
    folder = at or directory.newest_checkpoint()
    with _naming_others(directory, folder):
        _, path = storage.pair(folder / "state")
        data = storage.read_checked_json(path)
        done = _count(data, "env_steps", path)
    if done >= total_steps:
        raise UserError(
            f"{directory.path} already has {done} of {total_steps} steps; raise "
            "--total-steps to train on"
        )
    return done


def restore(assembly: Assembly, directory: RunDirectory, at: Path | None = None) -> Progress:
    """The state of a checkpoint, with the environments brought back to it.

    Args:
        assembly: of the run.
        directory: of the run.
        at: the checkpoint; None for the newest. A run that was stopped before its first checkpoint
            begins.

    Raises:
        RunError: no checkpoint, or one that is damaged or of another structure.
    """
    if at is None and not directory.has_begun:
        progress = Progress.fresh(assembly)
        progress.resumed_exactly = True
        return progress
    folder, fresh = at or directory.newest_checkpoint(), Progress.fresh(assembly)
    with _naming_others(directory, folder):
        stem = folder / "state"
        arrays, data = storage.load(stem)
        if assembly.given.policy is not None:
            check_class(fresh.state.learner.policy, data, storage.pair(stem)[1])
        with storage.rebuilding(storage.pair(stem)[1], "holds no state of this run"):
            return _restored(assembly, fresh, folder, arrays, data)


def _restored(
    assembly: Assembly,
    fresh: Progress,
    folder: Path,
    arrays: dict[str, Any],
    data: dict[str, Any],
) -> Progress:
    tensors, description = storage.pair(folder / "state")
    env_steps = _count(data, "env_steps", description)
    if env_steps != int(folder.name):
        raise RunError(
            f"{folder} holds the state after {env_steps} steps: it was copied or renamed"
        )

    def read(like: Any, prefix: str, shapes: bool = True) -> Any:
        return storage.from_arrays(like, arrays, prefix, tensors, shapes=shapes, owner=owner_of)

    # first: moments and gradients have its shapes, and would be named in place of it
    policy = read(fresh.state.learner.policy, "policy")
    likes = _trees(fresh, assembly.collector.snapshot())
    # measured from now on, or no longer: the settings may have changed
    was_measured = any(name.startswith("last_gradient/") for name in arrays)
    if was_measured != (likes["last_gradient"] is not None):
        del likes["last_gradient"]
    varies = () if assembly.collector.program() else ("environments",)  # as logs of actions do
    # a tally of other numbers, or a checkpoint of an earlier version
    if data.get("info_names", []) != list(assembly.info_names):
        del likes["infos"]
    found = {name: read(x, name, name not in varies) for name, x in likes.items()}
    learner = found["state"]._replace(policy=policy)
    infos = fresh.state.tally.infos
    infos = found.get("infos", None if infos is None else infos.begun_before())
    tally = found["episodes"]._replace(infos=infos)
    if data.get("infos"):  # checkpoints of earlier versions have none
        assembly.collector.restore_infos(data["infos"])
    exactly = assembly.collector.restore(found["environments"])
    state = TrainState(learner, tally, found.get("last_gradient", fresh.state.last_gradient))
    if not exactly:
        state = state.forget_running(jnp.ones(assembly.config.columns, bool))
    since = assembly.history.since(env_steps)
    state = begin_anew(state, since)
    numbers = {k: float(x) for k, x in data.get("numbers", {}).items() if k not in since}
    exact = exactly and data.get("exact", True) is True
    seconds = float(data["seconds"])
    progress = Progress(state, found["batch"], env_steps, seconds, exactly, numbers, exact)
    progress.saved_at = progress.updates
    return progress


def _count(data: dict[str, Any], name: str, path: Path) -> int:
    value = data.get(name)
    if type(value) is not int or not 0 <= value < 2**63:
        raise RunError(f"{path} does not hold a state of training: {name!r} is {value!r}")
    return value


@contextlib.contextmanager
def _naming_others(directory: RunDirectory, folder: Path) -> Iterator[None]:
    """Have the error of a damaged checkpoint name the others that can be read, and how to use
    them. A checkpoint of another structure is whole, and so are the others."""
    try:
        yield
    except storage.OtherStructure as error:
        raise storage.OtherStructure(
            f"{error}; resume the run with what it was trained with"
        ) from error
    except RunError as error:
        others = [p for p in directory.checkpoints() if p != folder and _is_whole(p)]
        if not others:
            raise
        resume = RunDirectory(others[-1]).resume_command
        raise RunError(
            f"{error}. These checkpoints can be read: {', '.join(p.name for p in others)}; go on "
            f"from the newest of them with: {resume}"
        ) from error


def _is_whole(folder: Path) -> bool:
    try:
        storage.load(folder / "state")
    except RunError:
        return False
    return True


def restore_fitted(
    estimator: EstimatorState, config: TrainConfig, directory: RunDirectory
) -> tuple[EstimatorState, RewardScale]:
    """What weighs a batch, from the newest checkpoint; the rest of the learner's state is not read.

    Args:
        estimator: a state before any fit, for its structure.
        config: of the run.
        directory: of the run.

    Raises:
        RunError: no checkpoint, or one that is damaged or of another structure.
    """
    stem = directory.newest_checkpoint() / "state"
    nothing = LearnerState(*[None] * len(LearnerState._fields))  # pyright: ignore
    like = nothing._replace(estimator=estimator, reward_scale=RewardScale.init(config.columns))
    read = [f"state/{name}/" for name, part in like._asdict().items() if part is not None]
    arrays = {k: x for k, x in storage.load(stem)[0].items() if k.startswith(tuple(read))}
    found = storage.from_arrays(like, arrays, "state", stem, owner=owner_of)
    return found.estimator, found.reward_scale
