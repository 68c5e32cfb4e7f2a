"""The group estimators of the literature, by name, and the one that blows up."""

from collections.abc import Callable

from policygrad.core import checks
from policygrad.gradients.groups import baselines
from policygrad.gradients.groups.estimator import GroupEstimator
from policygrad.gradients.groups.lengths import Constant, MeanLength, OwnLength, Sum
from policygrad.gradients.groups.normalisation import (
    OverBatch,
    OverDeviationOfOthers,
    OverGroupDeviation,
    Unchanged,
)


def plain() -> GroupEstimator:
    """w_i = R_i.

    Bias: none.

    Source: REINFORCE, Williams 1992.
    """
    return GroupEstimator(baselines.Zero(), Unchanged(), Sum())


def group_mean() -> GroupEstimator:
    """w_i = R_i − R̄.

    Bias: the mean is shorter than the gradient by 1 − 1/k, and points the same way.

    Source: Shao et al. 2024 without its deviation; Liu et al. 2025.
    """
    return GroupEstimator(baselines.GroupMean(), Unchanged(), Sum())


def rloo() -> GroupEstimator:
    """w_i = R_i − Σ_{j≠i} R_j / (k − 1), which is k/(k−1) times R_i − R̄.

    Bias: none.

    Source: Kool et al. 2019; Ahmadian et al. 2024 (RLOO).
    """
    return GroupEstimator(baselines.LeaveOneOut(), Unchanged(), Sum())


def value() -> GroupEstimator:
    """w_i = R_i − V, V a value of the state of the group that does not depend on its episodes.

    Bias: none.

    Source: Williams 1992.
    """
    return GroupEstimator(baselines.Value(), Unchanged(), Sum())


def remax() -> GroupEstimator:
    """w_i = R_i − R_greedy, the return of one more episode of the most probable actions.

    Bias: none.

    Source: Li et al. 2023.
    """
    return GroupEstimator(baselines.Greedy(), Unchanged(), Sum())


def opo() -> GroupEstimator:
    """w_i = R_i − Σ_j L_j R_j / Σ_j L_j.

    Bias: the baseline contains the episode, and its length in the weight of every other one. The
    mean has no simple form; `group_moments` computes it on a finite MDP.

    Source: Hao et al. 2025.
    """
    return GroupEstimator(baselines.LengthWeightedMean(), Unchanged(), Sum())


def grpo(*, epsilon: float = 1e-4, ddof: int = 1, own_length: bool = True) -> GroupEstimator:
    """w_i = (R_i − R̄) / (std(R) + ε) / L_i.

    Args:
        epsilon: ε, 0 or more; 1e-4 in TRL, 1e-6 in verl. Whatever it is, a group of equal returns
            weighs 0.
        ddof: 1 as `torch.std`, 0 for squares divided by k.
        own_length: divide by L_i, as the paper does; False sums over the steps.

    Raises:
        ValueError: a negative ε, or another ddof.

    Bias: groups of a small spread count more; short episodes count more.

    Source: Shao et al. 2024, equations 3 and 4.
    """
    deviation = OverGroupDeviation(*_spread(epsilon, ddof))
    return GroupEstimator(baselines.GroupMean(), deviation, OwnLength() if own_length else Sum())


def dr_grpo(*, divisor: float = 1.0) -> GroupEstimator:
    """w_i = (R_i − R̄) / c.

    Args:
        divisor: c, positive; in the paper the longest length allowed.

    Raises:
        ValueError: c is not positive.

    Bias: as `group_mean`, and a constant factor.

    Source: Liu et al. 2025.
    """
    checks.positive("divisor", divisor)
    return GroupEstimator(baselines.GroupMean(), Unchanged(), Constant(divisor))


def dapo(*, epsilon: float = 1e-4, ddof: int = 1, within_group: bool = False) -> GroupEstimator:
    """w_i = (R_i − R̄) / (std(R) + ε) / L̄, so that the sum is divided by the number of all steps.

    Args:
        epsilon, ddof: as `grpo`.
        within_group: L̄ of the group, as the paper's formula has it; False takes that of the batch,
            as `token-mean` does in verl.

    Raises:
        ValueError: as `grpo`.

    Bias: groups of a small spread count more. L̄ contains the episode's own length.

    Source: Yu et al. 2025, without its clipping and its filter of groups.
    """
    deviation = OverGroupDeviation(*_spread(epsilon, ddof))
    return GroupEstimator(baselines.GroupMean(), deviation, MeanLength(within_group))


def reinforce_plus_plus(*, epsilon: float = 1e-8, by_step: bool = False) -> GroupEstimator:
    """w = (R − mean(R)) / √(var(R) + ε), mean and variance over the batch.

    Args:
        epsilon: ε, 0 or more. Whatever it is, a batch of equal returns weighs 0.
        by_step: count each return as often as its episode has steps, as OpenRLHF and verl do, which
            normalise tokens.

    Raises:
        ValueError: a negative ε.

    Bias: of the order of 1 over the episodes of the batch; all groups have one scale.

    Source: Hu et al. 2025.
    """
    _not_negative(epsilon)
    return GroupEstimator(baselines.Zero(), OverBatch(epsilon, by_step), Sum())


def reinforce_plus_plus_baseline(*, epsilon: float = 1e-8, by_step: bool = False) -> GroupEstimator:
    """w = (A − mean(A)) / √(var(A) + ε), A_i = R_i − R̄ of the group, over the batch.

    Args:
        epsilon, by_step: as `reinforce_plus_plus`.

    Raises:
        ValueError: a negative ε.

    Bias: as `group_mean`, and that of one scale that contains the episode.

    Source: Hu et al. 2025, the variant with a baseline.
    """
    _not_negative(epsilon)
    return GroupEstimator(baselines.GroupMean(), OverBatch(epsilon, by_step), Sum())


def shrinkage(*, epsilon: float = 1e-6) -> GroupEstimator:
    """w_i = R_i − [(1 − λ) Σ_{j≠i} R_j / (k − 1) + λ m], λ and m as `baselines.Shrinkage` has them.

    Args:
        epsilon: of λ, 0 or more.

    Raises:
        ValueError: a negative ε.

    Bias: none: λ and m come from other groups, which are independent of this one.

    Source: Zeng et al. 2025 (arXiv 2511.03710). λ, m and the leave-one-out means are those of the
        authors' published code; the formulas of the paper's text were not compared.
    """
    _not_negative(epsilon)
    return GroupEstimator(baselines.Shrinkage(epsilon), Unchanged(), Sum())


def leave_one_out_over_deviation_of_others(
    *, epsilon: float = 1e-6, skip_equal: bool = False
) -> GroupEstimator:
    """w_i = (R_i − mean of the others) / (std of the others + ε).

    It is here to be measured, not to be used: where the others are equal it is (R_i − R_j)/ε, a
    million for one success among failures.

    Args:
        epsilon: ε, positive; with `skip_equal` 0 or more.
        skip_equal: leave w_i undivided where the others are equal.

    Raises:
        ValueError: a negative ε, or 0 without `skip_equal`, by which equal others are divided.

    Bias: the others are independent of the episode. From one state the mean is therefore the
        gradient times E[1 / (std of the others + ε)]; that factor weighs the states.

    Source: NeMo-RL with a leave-one-out baseline and normalised rewards, its issue 1518; its first
        remedy is `skip_equal`.
    """
    _not_negative(epsilon)
    if not skip_equal:
        checks.positive("epsilon", epsilon)
    deviation = OverDeviationOfOthers(epsilon, 1, skip_equal)
    return GroupEstimator(baselines.LeaveOneOut(), deviation, Sum())


def _not_negative(epsilon: float) -> None:
    checks.finite("epsilon", epsilon)
    if isinstance(epsilon, (int, float)) and epsilon < 0:
        raise ValueError(f"epsilon must be 0 or more, got epsilon={epsilon}")


def _spread(epsilon: float, ddof: int) -> tuple[float, int]:
    _not_negative(epsilon)
    if ddof not in (0, 1):
        raise ValueError(f"ddof must be 0 or 1, got ddof={ddof!r}")
    return epsilon, ddof


# by the name that the command and tables give them
ESTIMATORS: dict[str, Callable[[], GroupEstimator]] = {
    "plain": plain,
    "group-mean": group_mean,
    "rloo": rloo,
    "grpo": grpo,
    "dr-grpo": dr_grpo,
    "dapo": dapo,
    "remax": remax,
    "opo": opo,
    "reinforce++": reinforce_plus_plus,
    "reinforce++-baseline": reinforce_plus_plus_baseline,
    "shrinkage": shrinkage,
    "value": value,
    "rloo-over-std-of-others": leave_one_out_over_deviation_of_others,
}
