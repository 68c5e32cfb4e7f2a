"""Baselines: what is subtracted from a return without biasing the gradient.

Why they do not bias: given s_t the mean score is zero, so E[z_t b(s_t)] = 0 (E7) for every b that
does not depend on the action. Every baseline is used first and refitted afterwards, in every update
(E9). So none contains the sample that it is subtracted from.
"""

from collections.abc import Callable, Sequence

from numpy.typing import ArrayLike

from policygrad.core.checks import finite, numbers, positive, whole
from policygrad.gradients.baselines.base import (
    Baseline,
    Critic,
    FitBatch,
    Regression,
    StateBaseline,
)
from policygrad.gradients.baselines.classifier import ValueClassifier
from policygrad.gradients.baselines.linear import LinearFeatures
from policygrad.gradients.baselines.network import ValueNetwork
from policygrad.gradients.baselines.optimal import VarianceOptimal
from policygrad.gradients.baselines.recurrent import RecurrentValueNetwork
from policygrad.gradients.baselines.simple import Constant, LeaveOneOut, TimeDependent, Zero
from policygrad.gradients.baselines.table import Table
from policygrad.policies.architectures import Architecture, FullyConnected, checked, refuse_both
from policygrad.policies.memory import Memory
from policygrad.policies.normaliser import CLIP

__all__ = [
    "Baseline",
    "Critic",
    "FitBatch",
    "Pointwise",
    "Regression",
    "StateBaseline",
    "constant",
    "leave_one_out",
    "linear_features",
    "none",
    "table",
    "time_dependent",
    "value_classifier",
    "value_network",
    "variance_optimal",
]


Pointwise = StateBaseline  # its earlier name


def none() -> Zero:
    """No baseline: b = 0. Normalised advantages are then scaled, and not centred.

    Bias: none. Variance: the reference that every other baseline is measured against.

    Source: the post, E5.
    """
    return Zero()


def constant(value: float | None = None) -> Constant:
    """One number for every step.

    b = value, or the mean target of the batch before.  [E6]

    Args:
        value: the number, in units of reward; None fits it after every batch.

    Returns:
        A `StateBaseline`. It cannot bootstrap, because it does not estimate a state's value.

    Raises:
        ValueError: a value that is not one finite number.

    Bias: none (E7).

    Source: the post, E6; Williams 1992.
    """
    if value is not None:
        finite("value", value)
    return Constant(value)


def time_dependent(horizon: int = 1000) -> TimeDependent:
    """One number per time step.

    b(t) = mean of the targets at step t of the batch before.  [E6]

    Args:
        horizon: entries of the table; later times share the last one.

    Returns:
        A `StateBaseline`. It cannot bootstrap.

    Raises:
        ValueError: horizon below 1.

    Bias: none (E7).

    Source: the post, E6.
    """
    whole("horizon", horizon)
    return TimeDependent(horizon)


def linear_features(ridge: float = 1e-6, encode: Callable | None = None) -> LinearFeatures:
    """Ridge regression on [1, s, s²/2, t, t², t³].

    b(s, t) = βᵀφ(s, t), β = argmin Σ w (φᵀβ − target)² + ridge ‖β‖² on standardised features.  [E9]

    Args:
        ridge: relative to the variance of each feature; positive.
        encode: observation -> `[f]`; None takes the trainer's encoder of the observation space, or
            flattens.

    Returns:
        A `StateBaseline` that may bootstrap.

    Raises:
        ValueError: ridge not positive.

    Bias: none as a baseline (E7); as a critic, that of its error.

    Source: the post, E9; features as in Duan et al. 2016, appendix.
    """
    positive("ridge", ridge)
    return LinearFeatures(ridge, encode)


def value_network(
    hidden: Sequence[int] | None = None,
    *,
    network: Architecture | None = None,
    memory: Memory | None = None,
    step_size: float = 1e-3,
    epochs: int = 5,
    minibatches: int = 8,
    encode: Callable | None = None,
    clip_observations: float = CLIP,
) -> ValueNetwork | RecurrentValueNetwork:
    """A network of the normalised observation, fitted in every update after it was used.

    b(s) ≈ E[R_t | s_t = s], by `epochs` passes of minibatch Adam on ½(b(s_t) − target_t)².  [E9]

    Args:
        hidden: sizes of tanh layers: short for `network=FullyConnected(hidden)`.
        network: the architecture of the network; it may be one of your own. None for tanh layers of
            (64, 64), and for convolutions where an observation is a picture.
        memory: what it remembers of an episode; None for a function of the observation alone.
        step_size: of Adam; positive.
        epochs: passes over each batch.
        minibatches: number of minibatches in each pass; with memory, of whole lanes.
        encode: observation -> `[f]`; None takes the trainer's encoder of the observation space, or
            flattens.
        clip_observations: bound of normalised observations, in standard deviations; positive.

    Returns:
        A `StateBaseline` that may bootstrap; with memory a `Critic`, which has no table.

    Raises:
        ValueError: a size or number that is not positive, `hidden` and `network` both, or a network
            that is not an architecture.

    Bias: none as a baseline (E7); as a critic, that of its error.

    Source: the post, E9; Schulman et al. 2016, section 5.
    """
    architecture = _checked_network(hidden, network, step_size, epochs, minibatches)
    positive("clip_observations", clip_observations)
    how = epochs, minibatches, encode, float(clip_observations)
    if memory is None:
        return ValueNetwork(step_size, architecture, *how)
    return RecurrentValueNetwork(step_size, architecture, memory, *how)


def value_classifier(
    hidden: Sequence[int] | None = None,
    *,
    network: Architecture | None = None,
    step_size: float = 1e-3,
    epochs: int = 5,
    minibatches: int = 8,
    encode: Callable | None = None,
    clip_observations: float = CLIP,
) -> ValueClassifier:
    """A network that says how likely each return is; the baseline is their mean.

    b(s) = m + s Σ_k q_k(s) z_k ≈ E[R_t | s_t = s], with q by minibatch Adam on the cross-entropy
    −Σ_k p_k log q_k(s_t). p is a Gaussian around target_t, over the bins (HL-Gauss).  [E9]

    The 101 bins follow the running mean m and standard deviation s of all targets so far. They are
    evenly wide in asinh((target − m) / s) and reach to 10⁴ standard deviations on both sides. No
    target can lie further away among the first 10⁸; one that does counts for the outermost bin.

    Args:
        hidden, network, step_size, epochs, minibatches, encode, clip_observations: as in
            `value_network`.

    Returns:
        A `StateBaseline` that may bootstrap.

    Raises:
        ValueError: as `value_network`.

    Bias: none as a baseline (E7); as a critic, that of its error. Smearing does not move the mean.

    Source: Farebrother et al. 2024, section 3.1; Imani & White 2018.
    """
    architecture = _checked_network(hidden, network, step_size, epochs, minibatches)
    positive("clip_observations", clip_observations)
    how = epochs, minibatches, encode, float(clip_observations)
    return ValueClassifier(step_size, architecture, *how)


def _checked_network(
    hidden: Sequence[int] | None,
    network: Architecture | None,
    step_size: float,
    epochs: int,
    minibatches: int,
) -> Architecture | None:
    """The architecture of a critic; None for the usual one. Raises as `value_network` says."""
    refuse_both(network, hidden)
    positive("step_size", step_size)
    whole("epochs", epochs)
    whole("minibatches", minibatches)
    if hidden is not None:
        return FullyConnected(hidden)
    return None if network is None else checked(network)


def table(values: ArrayLike) -> Table:
    """Known values of the states of a finite task, such as an exact V or a deliberately wrong one.

    b(s, t) = values[t, s], or values[s] at every time.  [E6, E11]

    Args:
        values: `[S]`, or `[T, S]`, in units of reward; times from T on share the last row. An
            observation is the index of its state. The table is never refitted.

    Returns:
        A `StateBaseline` that may bootstrap.

    Raises:
        ValueError: another number of axes, or a value that is not finite.

    Bias: none as a baseline (E7); as a critic, that of its error.

    Source: the post, E6 and E11.

    >>> table([1.0, 2.0]).given.tolist()
    [1.0, 2.0]
    """
    given = numbers("values", values)
    if given.ndim not in (1, 2) or given.size == 0:
        raise ValueError(f"values must have shape [S] or [T, S], got {given.shape}")
    return Table(given)


def leave_one_out() -> LeaveOneOut:
    """The mean return of the other episodes of the batch.

    b_i = (1/(k−1)) Σ_{j≠i} R_j, at every step of episode i; with returns to go, step by step; an
    episode that has ended counts as 0.  [E6]

    Returns:
        A baseline for whole episodes, at least two a batch. It cannot bootstrap.

    Bias: none, as b_i does not contain episode i. It makes the episodes of a batch dependent. The
    spread over episodes alone therefore understates the variance of their mean.

    Source: Kool et al. 2019.
    """
    return LeaveOneOut()


def variance_optimal(
    regression: Regression | None = None, *, cross_terms: bool = True
) -> VarianceOptimal:
    """The baseline that minimises the variance of the gradient, not the error in the return.

    b = argmin E Σ_t w_t² ‖z_t‖² (y_t − b_t)², y_t = b_t + z_t·ĝ / (w_t ‖z_t‖²), with w_t = γ^t if
    it is kept, else 1.  [E6, E8]

    Args:
        regression: the class of functions, and how it is fitted: `linear_features()` (None) or
            `value_network()`.
        cross_terms: whether the scores of an episode's other steps count; this needs whole
            episodes. False is the regression of the returns, weighted by ‖z_t‖².

    Returns:
        A `StateBaseline`. It cannot bootstrap, because it does not estimate a state's value.

    Raises:
        ValueError: a regression that cannot be fitted.

    Bias: none (E7). Its targets are noisy, so it needs more episodes than a value network. With few
    episodes V can be the better baseline.

    Source: Greensmith et al. 2004 (without cross-time terms); the cross-time terms follow from the
    variance being a parabola in b.
    """
    regression = linear_features() if regression is None else regression
    if not isinstance(regression, Regression):
        raise ValueError(
            "regression must be linear_features(), value_network() or another Regression, got "
            f"{type(regression).__name__}"
        )
    return VarianceOptimal(regression, cross_terms)
