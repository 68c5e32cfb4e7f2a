"""What a PyTorch module says of the return to go, as the critic or the baseline of an estimator."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories, successor_values
from policygrad.gradients.baselines.base import Critic
from policygrad.gradients.weights import Estimator, EstimatorState
from policygrad.torch.gradients import ROWS, TorchPolicy, torch_library
from policygrad.torch.modes import check_mode


class Values(NamedTuple):
    """Values of one record's observations `[T, B]` and of its true successors `[K, B]`."""

    seen: Any
    cut: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ModuleValues(Critic):
    """The values of `TorchPolicy.values`. They are computed for every record that is weighed.

    >>> from policygrad import estimators
    >>> bool(estimators.gae(critic=ModuleValues()).critic.may_bootstrap)
    True
    """

    may_bootstrap: ClassVar[bool] = True

    def init(self, key: PRNGKeyArray, observation: PyTree) -> Any:
        del key, observation
        return ()

    def predict(
        self, state: Any, trajectories: Trajectories, returns: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        del returns
        return state.seen

    def values_and_successors(
        self, state: Any, trajectories: Trajectories
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        return state.seen, successor_values(state.seen, state.cut, trajectories)


def with_values(
    policy: TorchPolicy, estimator: Estimator, state: EstimatorState, record: Trajectories
) -> EstimatorState:
    """The state, with the module's values of this record where the estimator reads them.

    Raises:
        UserError: the policy has no values.
    """
    reads = [isinstance(x, ModuleValues) for x in (estimator.baseline, estimator.critic)]
    if not any(reads):
        return state
    values = values_of(policy, record)
    return EstimatorState(
        *(values if reading else own for reading, own in zip(reads, state, strict=True))
    )


def values_of(policy: TorchPolicy, record: Trajectories) -> Values:
    """The module's values of a record, in chunks of steps.

    Raises:
        UserError: the policy has no values, or a layer is in a mode of training.
    """
    if policy.values is None:
        raise UserError(
            "the estimator reads the module's values, and the policy has none; give "
            "TorchPolicy(module, log_probs, values=lambda module, observations: ...)"
        )
    check_mode(policy.scorer)
    read, torch = policy.values, torch_library()

    def of(observations: Any) -> Float[np.ndarray, "T B"]:
        shape = np.shape(jax.tree.leaves(observations)[0])[:2]
        flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *np.shape(x)[2:]), observations)
        found = []
        with torch.no_grad():
            for start in range(0, shape[0] * shape[1], ROWS):
                rows = jax.tree.map(lambda x, start=start: x[start : start + ROWS], flat)
                each = read(policy.module, policy.tensors(rows))
                found.append(each.reshape(-1).cpu().numpy())
        return np.concatenate(found).astype(np.float32).reshape(shape)

    return Values(of(record.observations), of(record.cut_observations))
