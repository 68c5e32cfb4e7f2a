"""A run's state on disk: everything that resuming needs, as named arrays and JSON."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from policygrad.algorithms.learner import LearnerState
from policygrad.algorithms.reward_scale import RewardScale
from policygrad.core.errors import UserError
from policygrad.gradients.weights import EstimatorState
from policygrad.policies.meeting import Policy
from policygrad.runs import RunDirectory, storage
from policygrad.runs.policy_files import policy_to_files
from policygrad.training.adaptive_batch import AdaptiveBatch
from policygrad.training.assembly import Assembly
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
    """

    state: TrainState
    batch: AdaptiveBatch | None = None
    env_steps: int = 0
    seconds: float = 0.0
    resumed_exactly: bool | None = None

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
    """Write a checkpoint."""
    learner = progress.state.learner
    arrays, data = policy_files(assembly, learner.policy)
    for prefix, tree in _trees(progress, assembly.collector.snapshot()).items():
        arrays |= storage.to_arrays(tree, prefix)
    data |= {"env_steps": progress.env_steps, "seconds": progress.seconds}
    keep = assembly.config.keep_checkpoints
    directory.save_checkpoint(progress.env_steps, arrays, data, keep)


def _trees(progress: Progress, environments: Any) -> dict[str, Any]:
    """What is saved beside the policy, by the prefix of its names."""
    state = progress.state
    return {
        "state": state.learner._replace(policy=None),
        "environments": environments,
        "episodes": state.tally,
        "last_gradient": state.last_gradient,
        "batch": progress.batch,
    }


def check_steps_left(directory: RunDirectory, total_steps: int) -> int:
    """The steps of a run's newest checkpoint; UserError where these are all its steps already."""
    _, path = storage.pair(directory.newest_checkpoint() / "state")
    data = storage.read_checked_json(path)
    if data["env_steps"] >= total_steps:
        raise UserError(
            f"{directory.path} already has {data['env_steps']} of {total_steps} steps; raise "
            "--total-steps to train on"
        )
    return int(data["env_steps"])


def restore(assembly: Assembly, directory: RunDirectory) -> Progress:
    """The state of the newest checkpoint, with the environments brought back to it.

    Raises:
        RunError: no checkpoint, or one that is damaged or of another structure.
    """
    stem = directory.newest_checkpoint() / "state"
    arrays, data = storage.load(stem)
    fresh = Progress.fresh(assembly)

    def read(like: Any, prefix: str, shapes: bool = True) -> Any:
        return storage.from_arrays(like, arrays, prefix, stem, shapes=shapes)

    likes = _trees(fresh, assembly.collector.snapshot())
    found = {name: read(x, name, name != "environments") for name, x in likes.items()}
    learner = found["state"]._replace(policy=read(fresh.state.learner.policy, "policy"))
    tally = found["episodes"]
    exactly = assembly.collector.restore(found["environments"])
    if not exactly:  # fresh episodes must not continue the sums of old ones
        tally = tally.forget_running()
        scale = learner.reward_scale
        scale = scale._replace(running=np.zeros_like(scale.running))
        learner = learner._replace(reward_scale=scale)
    state = TrainState(learner, tally, found["last_gradient"])
    env_steps, seconds = int(data["env_steps"]), float(data["seconds"])
    return Progress(state, found["batch"], env_steps, seconds, exactly)


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
    found = storage.from_arrays(like, arrays, "state", stem)
    return found.estimator, found.reward_scale
