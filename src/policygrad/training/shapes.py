"""Batches of whole episodes in few shapes, since an update is compiled for each shape."""

from policygrad.algorithms import Learner
from policygrad.core.trajectories import Trajectories
from policygrad.policies.meeting import Policy, WithMemory
from policygrad.rollout.heights import LEAST_ROWS, longest, of_shape, power_of_two, with_room


def of_few_shapes(
    trajectories: Trajectories, learner: Learner, policy: Policy, limit: int, columns: int
) -> Trajectories:
    """A batch of whole episodes, padded.

    If what learns from it computes step by step, the batch gets room for episodes up to the limit:
    as a rule, all batches then have one shape. If it computes column by column (a policy with
    memory, the gradients of single episodes), padding costs as much time as steps do. The batch
    then has the smallest power of two of rows that holds its longest episode.

    Args:
        trajectories: as it was collected.
        learner, policy: what learns from it.
        limit: steps of the longest episode that there can be.
        columns: as many as the batch has, or more.
    """
    if isinstance(policy, WithMemory) or learner.estimator.takes_columns:
        return of_shape(trajectories, power_of_two(longest(trajectories), LEAST_ROWS))
    return with_room(trajectories, limit, columns)
