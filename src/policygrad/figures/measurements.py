"""Figures of gradient diagnostics. Matplotlib is imported when one is drawn."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from policygrad.diagnostics.comparison import Comparison
from policygrad.diagnostics.cosines import predicted_curve
from policygrad.diagnostics.decomposition import DecomposedVariance
from policygrad.diagnostics.noise import GradientNoise
from policygrad.figures.style import BLUE, GREEN, GREY, ORANGE, new_figure, steps_label, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _counts(axis: Any) -> None:
    axis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")


def cosine_against_episodes(
    noise: GradientNoise, batch_episodes: float | None = None, axes: "Axes | None" = None
) -> "Figure":
    """The cosine of two batches of N episodes: measured with its interval, and predicted twice.

    One prediction is by length of gradient (`lengths`), the other from norm and variance alone,
    with normal noise.

    Args:
        noise: as `gradient_noise` measured it.
        batch_episodes: the batch in use; marked if it is given and finite.
        axes: to draw into; None makes a new figure.
    """
    curve, snr = noise.cosines, noise.total.signal_to_noise
    if axes is None:
        _, axes = new_figure(1, 5.4, 3.8)
    assert axes is not None
    n, found = curve.episodes, curve.between
    marked = batch_episodes is not None and np.isfinite(batch_episodes)
    most = max(4 * float(n[-1]), 2 * batch_episodes if marked and batch_episodes else 0.0)
    grid = np.geomspace(1, most, 80)
    predicted = predicted_curve(snr, noise.total.along, grid).map(np.square)
    axes.fill_between(grid, predicted.low, predicted.high, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(
        grid, predicted.value, color=BLUE, linewidth=1.2, linestyle="--",
        label="predicted, normal noise",
    )  # fmt: skip
    axes.plot(
        n, curve.between_by_length, "D", color=BLUE, markersize=7, fillstyle="none",
        label="predicted by length of gradient",
    )  # fmt: skip
    away = [np.maximum(found.value - found.low, 0), np.maximum(found.high - found.value, 0)]
    axes.errorbar(
        n, np.clip(found.value, 0.0, 1.0), yerr=away, fmt="o", color=ORANGE, markersize=4,
        capsize=3, linewidth=1.2, label="measured, disjoint batches",
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    _counts(axes.xaxis)
    axes.set_ylim(-0.03, 1.25)
    axes.set_yticks(np.linspace(0, 1, 6))
    if marked and batch_episodes is not None:
        axes.plot([batch_episodes] * 2, [-0.03, 1.0], color=GREY, linestyle=":", linewidth=1.2)
        right = batch_episodes**2 > most  # in the right half, the label goes to the left
        axes.annotate(
            "batch in use", (batch_episodes, 1.0), xytext=(-3 if right else 3, 0),
            textcoords="offset points", fontsize=8, color=GREY, va="top",
            ha="right" if right else "left",
        )  # fmt: skip
    titled(axes, "How alike are two gradients of N episodes?", "episodes N", "cosine")
    axes.legend(fontsize=8, frameon=False, loc="upper left", borderaxespad=0.1)
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure  # type: ignore[return-value]


def bias_variance_plane(comparison: Comparison) -> "Figure":
    """Every estimator by its squared bias and by the variance of the batch in use.

    Lines are the 95 % intervals of the squared bias. A bias that may be zero is a hollow point at
    the left edge. The estimator of least mean squared error is marked. The mark says "not surely"
    if the interval of another estimator's error begins below the upper end of the least one's.
    """
    rows = list(comparison.estimators.items())
    figure, axes = new_figure(1, 7.6, max(3.8, 2.2 + 0.24 * len(rows)))
    n = comparison.batch_episodes
    variances = np.array([x.variance.value for _, x in rows]) / n
    biased = [x.squared_bias.low > 0 for _, x in rows]
    ends = [x.squared_bias.high for _, x in rows if 0 < x.squared_bias.high < np.inf]
    ends += [x.squared_bias.low for _, x in rows if x.squared_bias.low > 0]
    edge, most = _decades(ends)
    best, surely = comparison.least_error, _surely_best(comparison)
    axes.set_xscale("log")
    axes.set_yscale("log")
    order = np.argsort(-variances)
    for i in order:
        name, x = rows[i]
        at = max(x.squared_bias.value, edge) if biased[i] else edge
        colour = GREEN if name == best else ORANGE if biased[i] else BLUE
        span = [max(x.squared_bias.low, edge), min(max(x.squared_bias.high, edge), most)]
        axes.plot(span, [variances[i]] * 2, color=colour, alpha=0.35, linewidth=1.2)
        axes.plot(
            at, variances[i], "o", color=colour, markersize=8 if name == best else 5,
            mfc=colour if biased[i] else "white", clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set_xlim(edge, most)
    low, high = (np.log(x) for x in axes.get_ylim())
    heights = (np.log(np.maximum(variances[order], np.exp(low))) - low) / (high - low)
    apart = 0.17 / figure.get_figheight()
    for i, place in zip(order, _spread_out(heights, apart * 1.25), strict=True):
        name, x = rows[i]
        colour = GREEN if name == best else ORANGE if biased[i] else BLUE
        mark = "" if name != best else "  ← least error" + ("" if surely else ", not surely")
        end = min(max(x.squared_bias.high, edge), most)
        axes.annotate(
            name + mark, (end, variances[i]), xytext=(1.05, place), textcoords="axes fraction",
            fontsize=8, va="center", color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.25, "linewidth": 0.6,
                        "relpos": (0, 0.5)},
        )  # fmt: skip
    titled(
        axes, f"Bias and variance of a batch of {n:,} episodes",
        "squared bias (hollow, at the left edge: may be zero)", "variance of the batch",
    )  # fmt: skip
    return figure


def _decades(ends: list[float]) -> tuple[float, float]:
    """The lowest and the highest decade around these numbers, with some margin."""
    low = np.floor(np.log10(0.3 * min(ends, default=1.0)))
    high = np.ceil(np.log10(1.2 * max(ends, default=1.0)))
    return 10.0**low, 10.0**high


def _surely_best(comparison: Comparison) -> bool:
    """Whether every other estimator's error is larger than the upper end of the best one's."""
    errors = {name: x.mean_squared_error for name, x in comparison.estimators.items()}
    most = errors.pop(comparison.least_error).high
    return all(x.low > most for x in errors.values())


def _spread_out(heights: Float[np.ndarray, " n"], apart: float) -> Float[np.ndarray, " n"]:
    """Move falling heights as little as needed so that neighbours are this far apart."""
    groups: list[list[float]] = []  # [mean, count] of neighbours that touch
    for height in heights:
        groups.append([float(height), 1])
        while len(groups) > 1:
            (above, m), (below, k) = groups[-2:]
            if above - below >= apart * (m + k) / 2:
                break
            groups[-2:] = [[(above * m + below * k) / (m + k), m + k]]
    return np.array([mean + apart * ((k - 1) / 2 - i) for mean, k in groups for i in range(int(k))])


def variance_by_step(found: DecomposedVariance) -> "Figure":
    """E‖g_t‖² of every time step with its interval, and the share of episodes that reach it."""
    figure, axes = new_figure(1, 5.4, 3.8)
    reached = max(int((found.alive > 0).sum()), 1)
    width = -(-reached // 100)
    t = np.arange(0, reached, width) + (width - 1) / 2

    def binned(x: np.ndarray) -> np.ndarray:
        return np.array([x[i : min(i + width, reached)].mean() for i in range(0, reached, width)])

    low, value, high = (
        binned(x) for x in (found.by_step.low, found.by_step.value, found.by_step.high)
    )
    alive = binned(found.alive)
    axes.fill_between(t, low, high, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(t, value, color=BLUE, linewidth=1.4)
    # few episodes reach the last steps; their wide intervals would compress the rest
    known = high[(alive >= 0.05) & np.isfinite(high)]
    top = known.max() if known.size and known.max() > 0 else 1.0
    axes.set_ylim(0, 1.2 * top)
    other = axes.twinx()
    other.plot(t, alive, color=GREY, linewidth=1.2, linestyle="--")
    other.plot([], [], color=BLUE, linewidth=1.4, label="E‖g_t‖² (left)")
    other.plot([], [], color=GREY, linestyle="--", label="episodes alive (right)")
    other.set_ylim(0, 1.2)
    other.set_yticks(np.linspace(0, 1, 6))
    other.spines[["top"]].set_visible(False)
    other.tick_params(labelsize=8)
    other.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)
    titled(axes, "Which time steps the variance comes from", "time step t", "E‖g_t‖²")
    return figure


def variance_by_component(found: DecomposedVariance) -> "Figure":
    """The parts of the total variance, and the variance of every group of parameters."""
    parts = list(found.parts.items())[:24]
    figure, axes = new_figure(1, 5.4, 1.7 + 0.24 * (4 + len(parts)))
    whole = found.total
    rows = [
        ("Var = D + C − B", whole.variance, BLUE),
        ("D: each step by itself", whole.diagonal, GREEN),
        ("C: between steps", whole.cross, GREEN),
        ("F: approximation (ii) of D", whole.factored, GREY),
        *((f"Var of {name}", part.variance, BLUE) for name, part in parts),
    ]
    for i, (_, x, colour) in enumerate(rows):
        axes.barh(i, x.value, color=colour, alpha=0.75, height=0.62)
        axes.plot([x.low, x.high], [i, i], color="black", linewidth=1)
        end = max(x.high, x.value, 0.0)
        axes.annotate(
            f"{x.value:.3g}", (end, i), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=7.5,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.6)
    axes.margins(x=0.12)
    titled(axes, "What the variance is made of", "variance of one episode's gradient", "")
    return figure


def baseline_against_return(
    returns: Float[np.ndarray, " n"], baseline: Float[np.ndarray, " n"]
) -> "Figure":
    """The return of each step against the baseline's prediction, and the mean return of each bin.

    Args:
        returns: `[n]`, returns to go of steps.
        baseline: `[n]`, of the same steps.
    """
    figure, axes = new_figure(1, 5.4, 4.2)
    shown = np.random.default_rng(0).permutation(len(returns))[:4000]
    axes.plot(
        baseline[shown], returns[shown], ".", color=BLUE, alpha=0.25, markersize=3, mew=0,
        label="a step",
    )  # fmt: skip
    # a few far points would compress the rest
    limits = np.array([np.quantile(x, [0.005, 0.995]) for x in (baseline, returns)])
    margin = 0.08 * max(float(np.ptp(limits, axis=1).max()), 1e-9)
    low, high = float(limits.min()) - margin, float(limits.max()) + margin
    axes.set_xlim(limits[0, 0] - margin, limits[0, 1] + margin)
    axes.set_ylim(limits[1, 0] - margin, limits[1, 1] + margin)
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, label="exact prediction")
    edges = np.unique(np.quantile(baseline, np.linspace(0, 1, 13)))
    if len(edges) > 2:
        bins = np.clip(np.searchsorted(edges, baseline, side="right") - 1, 0, len(edges) - 2)
        counts = np.bincount(bins, minlength=len(edges) - 1)
        with np.errstate(all="ignore"):
            x = np.bincount(bins, baseline, len(edges) - 1) / counts
            y = np.bincount(bins, returns, len(edges) - 1) / counts
        axes.plot(x, y, "o-", color=ORANGE, markersize=4, linewidth=1.4, label="mean return")
    titled(axes, "What the baseline predicts", "baseline", "return to go")
    axes.legend(fontsize=8, frameon=False, loc="best", markerscale=1.5)
    return figure


def noise_scale_over_training(
    env_steps: Float[np.ndarray, " u"],
    noise_scale: Float[np.ndarray, " u"],
    batch: Float[np.ndarray, " u"],
) -> "Figure":
    """The gradient noise scale beside the batch in use, over environment steps.

    Args:
        env_steps: trained after each update.
        noise_scale: environment steps; NaN where it was not measured, infinite if no signal could
            be told from the noise of the batch.
        batch: steps of each update.
    """
    figure, axes = new_figure(1, 5.4, 3.8)
    known = np.isfinite(noise_scale) & (noise_scale > 0)
    axes.plot(
        env_steps[known], noise_scale[known], ".-", color=BLUE, linewidth=1.2, label="noise scale B"
    )
    axes.plot(env_steps, batch, color=GREY, linestyle="--", label="batch in use")
    axes.set_yscale("log")
    beyond = np.isinf(noise_scale)
    if beyond.any():
        axes.plot(
            env_steps[beyond], np.full(beyond.sum(), 0.98), "^", color=ORANGE, markersize=4,
            transform=axes.get_xaxis_transform(), label="too large for the batch to measure",
        )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda x, _: steps_label(x))
    titled(axes, "Gradient noise scale over training", "environment steps", "steps of a batch")
    axes.legend(fontsize=8, frameon=False)
    return figure
