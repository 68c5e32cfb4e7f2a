"""The pictures of what was measured, each with what it shows in words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.groups_shown import batch_in_use
from policygrad.figures import measurements
from policygrad.figures.group_noise import variance_by_group_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture that a report may hold.

    Attributes:
        name: of its file, without the ending.
        caption: how it is read.
        draw: the figure; None where what it shows was not measured.
        tell: what is to be seen, in one sentence, for who does not see it.
        wide: whether it takes the whole width.
    """

    name: str
    caption: str
    draw: "Callable[[Examination], Figure | None]"
    tell: Callable[[Examination], str]
    wide: bool = False


def figures_of(examination: Examination) -> "dict[str, Figure]":
    """name -> figure, for everything that was measured."""
    drawn = {picture.name: picture.draw(examination) for picture in PICTURES}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _cosines(x: Examination) -> "Figure | None":
    if x.noise is None:
        return None
    return measurements.cosine_against_episodes(x.noise, x.batch_episodes)


def _tell_cosines(x: Examination) -> str:
    assert x.noise is not None
    n, found = x.noise.cosines.episodes, x.noise.cosines.between.value
    return (
        f"Cosine against the number of episodes: measured as {found[0]:.2g} for batches of "
        f"{n[0]:g}, and as {found[-1]:.2g} for batches of {n[-1]:g}."
    )


def _groups(x: Examination) -> "Figure | None":
    if x.groups is None or batch_in_use(x.groups, x.batch_episodes) is None:
        return None
    return variance_by_group_size(x.groups, x.batch_episodes)


def _tell_groups(x: Examination) -> str:
    assert x.groups is not None
    now = batch_in_use(x.groups, x.batch_episodes)
    assert now is not None
    return (
        f"Variance of a batch against the episodes in a group: {now.variance:.3g} for the "
        f"{now.groups} groups of {now.episodes_a_group} in use."
    )


def _steps(x: Examination) -> "Figure | None":
    return None if x.decomposition is None else measurements.variance_by_step(x.decomposition)


def _tell_steps(x: Examination) -> str:
    assert x.decomposition is not None
    sizes, alive = np.asarray(x.decomposition.by_step.value), x.decomposition.alive
    reached = int((alive > 0).sum())
    return (
        f"Size of the term of each time step, up to step {reached - 1}: greatest at step "
        f"{int(np.argmax(sizes))}. Half of the episodes or more reach step "
        f"{int((alive >= 0.5).sum()) - 1}."
    )


def _components(x: Examination) -> "Figure | None":
    return None if x.decomposition is None else measurements.variance_by_component(x.decomposition)


def _tell_components(x: Examination) -> str:
    assert x.decomposition is not None
    d = x.decomposition.total
    return (
        f"Bars: the variance is {d.variance.value:.3g}, the part D of single steps "
        f"{d.diagonal.value:.3g}, the part C between steps {d.cross.value:.3g}, and what "
        f"approximation (ii) makes of D is {d.factored.value:.3g}."
    )


def _baseline(x: Examination) -> "Figure | None":
    if x.predicted_returns is None:
        return None
    return measurements.baseline_against_return(*x.predicted_returns)


def _tell_baseline(x: Examination) -> str:
    assert x.predicted_returns is not None
    returns, predicted = x.predicted_returns
    if not (np.std(returns) > 0 and np.std(predicted) > 0):
        return "Points: return against prediction; one of them is the same at every step."
    alike = np.corrcoef(returns, predicted)[0, 1]
    return f"Points: return against prediction at every step; their correlation is {alike:.2g}."


def _noise_scale(x: Examination) -> "Figure | None":
    signal, steps = x.metric("signal_to_noise"), x.metric("env_steps")
    if not np.isfinite(signal).any():
        return None
    # a monitored update without signal has a noise scale that is too large to be measured
    scale = np.where(signal == 0, np.inf, x.metric("noise_scale"))
    return measurements.noise_scale_over_training(steps, scale, np.diff(steps, prepend=0.0))


def _tell_noise_scale(x: Examination) -> str:
    scale = x.metric("noise_scale")
    known = scale[np.isfinite(scale)]
    if not len(known):
        return "Noise scale over training: it was too large to be measured."
    return (
        f"Noise scale over training: {known[0]:.3g} steps when first measured, {known[-1]:.3g} "
        f"when last; a batch has {x.batch_steps:.3g} steps on average."
    )


def _plane(x: Examination) -> "Figure | None":
    return None if x.comparison is None else measurements.bias_variance_plane(x.comparison)


def _tell_plane(x: Examination) -> str:
    assert x.comparison is not None
    return (
        f"{len(x.comparison.estimators)} estimators by their squared bias and the variance of a "
        f"batch; the least error of both together has: {x.comparison.least_error}."
    )


PICTURES = (
    Picture(
        "cosine_against_episodes",
        "How alike are the gradients of two batches? Points with lines are the measured cosine of "
        "independent batches and its 95\u00a0% interval. It is predicted twice: from the lengths "
        "of the gradients of single episodes, and from signal and noise alone.",
        _cosines, _tell_cosines,
    ),
    Picture(
        "variance_by_group_size",
        "The variance of the gradient of a batch that costs as much as the one in use, predicted "
        "from the noise between groups and within them. The band takes both at the ends of their "
        "95\u00a0% intervals.",
        _groups, _tell_groups,
    ),
    Picture(
        "variance_by_step",
        "Which time steps the noise comes from: the mean squared length of the gradient's term of "
        "each step, with 95\u00a0% intervals, and the share of episodes that last so long.",
        _steps, _tell_steps,
    ),
    Picture(
        "variance_by_component",
        "What the variance is made of, and the variance of every group of parameters. D: each "
        "step by itself. C: what steps have in common. F: D as approximation (ii) predicts it. "
        "B: the squared length of the mean gradient. Lines are 95\u00a0% intervals.",
        _components, _tell_components,
    ),
    Picture(
        "baseline_against_return",
        "If the baseline is right on average, the means lie on the line of exact prediction. "
        "Rewards are scaled as in training.",
        _baseline, _tell_baseline,
    ),
    Picture(
        "noise_scale_over_training",
        "A batch far below the noise scale is mostly noise; far above it, most steps add little. "
        "Triangles: no signal could be told from the noise of the batch.",
        _noise_scale, _tell_noise_scale,
    ),
    Picture(
        "bias_variance_plane",
        "Estimators on the same episodes. Further left is less bias, further down is less "
        "variance. The bias is measured against rewards to go less the run's baseline, discounted "
        "as in training. A hollow point: the bias is not significant.",
        _plane, _tell_plane, wide=True,
    ),
)  # fmt: skip
