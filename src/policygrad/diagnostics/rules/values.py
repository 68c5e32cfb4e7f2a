"""What is wrong with how actions are judged: discount, λ, critic and baseline."""

import numpy as np

from policygrad.core.settings import flag
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.intervals import Measured
from policygrad.diagnostics.rules.rule import SYMPTOMS, Found, Proposals, Rule, Thresholds
from policygrad.diagnostics.rules.settings import (
    USUAL_CRITIC_EPOCHS,
    USUAL_CRITIC_STEP_SIZE,
    USUAL_DISCOUNT,
    USUAL_LAMBDA,
    Settings,
)

# names of estimators in the comparison that are no flags
IN_USE, WITH, WITHOUT = "in use", "with baseline", "without baseline"
LAMBDA_FLAG = "--gae-lambda"
_USUAL_CRITIC = f"--critic-step-size {USUAL_CRITIC_STEP_SIZE:g}"


def discount_too_low(e: Examination, t: Thresholds) -> Found | None:
    """The horizon 1/(1 − γ) is short, and episodes are many horizons long."""
    settings = Settings.of(e)
    if e.sample is None or not settings.describes("estimator") or settings.resets_at_rewards:
        return None
    discount, horizon = float(settings["discount"]), settings.horizon
    length = e.sample.lengths.most
    if horizon > t["horizon"] or length < t["episodes_horizons"] * horizon:
        return None
    return Found(
        "The discount is too low for a task this long: rewards that an action leads to later count "
        "for almost nothing.",
        f"--discount is {discount:g}, a horizon of 1/(1 − γ) = {horizon:.3g} steps, while episodes "
        f"last up to {length:.0f} (mean {e.sample.lengths.mean:.0f}).",
        {"discount": discount, "horizon": horizon, "longest_episode": length},
        f"Train with --discount {USUAL_DISCOUNT:g}.",
        ({"discount": USUAL_DISCOUNT},),
    )


def discount_too_high(e: Examination, t: Thresholds) -> Found | None:
    """γ is nearly 1 and most episodes are truncated early: values grow very large."""
    s, settings = e.sample, Settings.of(e)
    if s is None or s.truncated < t["truncated"]:
        return None
    if settings.limit_terminates or not settings.bootstraps or settings.resets_at_rewards:
        return None
    discount, horizon = float(settings["discount"]), settings.horizon
    if horizon < max(t["horizon"], t["horizons_episode"] * s.lengths.mean):
        return None
    return Found(
        "The discount is too high: the task goes on after its time limit, and the critic has to "
        "predict rewards of a future that no episode shows.",
        f"--discount is {discount:g}, a horizon of {horizon:.3g} steps; {s.truncated:.0%} of the "
        f"episodes are truncated, after {s.lengths.mean:.0f} steps, and bootstrap there.",
        {"discount": discount, "horizon": float(horizon), "length": s.lengths.mean},
        f"Train with --discount {USUAL_DISCOUNT:g}, or with --time-limit terminates if the limit "
        "is part of the task.",
        ({"discount": USUAL_DISCOUNT}, {"time_limit": "terminates"}),
    )


def lambda_too_low(e: Examination, t: Thresholds) -> Found | None:
    """λ is small, and the critic explains little of the variance of the returns."""
    found = Settings.of(e).effective_lambda
    if found is None or e.sample is None or found[0] >= t["lambda"]:
        return None
    explains = e.sample.critic_explains
    if explains >= t["explained"] or e.sample.returns_vary < t["returns_vary"]:
        return None
    untrained = critic_not_trained(e, CRITIC_NOT_TRAINED) is not None
    trained = {"critic_step_size": USUAL_CRITIC_STEP_SIZE}
    also = f", and a critic that is trained: {_USUAL_CRITIC}" if untrained else ""
    known = f"{explains:.2f}" if np.isfinite(explains) else "unknown"
    return Found(
        f"λ is too low: the advantages rest on a critic that is {'un' if untrained else 'badly '}"
        "trained.",
        f"{found[1]}, so that later rewards count only through the critic's values; the critic "
        f"explains {known} of the variance of the returns of fresh episodes.",
        {"lambda": found[0], "critic_explains": explains},
        f"Train with --estimator gae {LAMBDA_FLAG} {USUAL_LAMBDA:g}{also}.",
        ({"estimator": "gae", "gae_lambda": USUAL_LAMBDA, **(trained if untrained else {})},),
    )


CRITIC_NOT_TRAINED = {"step_size": 1e-6, "gap": 5e-3, "explained": 0.0, "updates": 5}


def critic_not_trained(e: Examination, t: Thresholds) -> Found | None:
    """The critic's step size is (almost) zero, or its fit changes nothing."""
    before, after = e.metric("explained_variance_before"), e.metric("explained_variance_after")
    gaps = (after - before)[np.isfinite(after - before)]
    gap = float(np.median(gaps)) if len(gaps) else float("nan")
    explained = float(np.median(before)) if len(before) else float("nan")
    known = e.sample.critic_explains if e.sample else float("nan")
    settings = Settings.of(e)
    network, step_size = settings.value_network, settings["critic_step_size"]
    named = network and step_size < t["step_size"]
    uses = network or not settings.describes("estimator")
    poor = explained < t["explained"] and known < t["explained"]
    still = uses and len(gaps) >= t["updates"] and gap < t["gap"] and poor
    if not (named or still):
        return None
    seen = f"--critic-step-size is {step_size:g}" if network else "Fits change nothing"
    if len(gaps):
        seen += (
            f"; in the median update the explained variance is {explained:.3g} before the fit, and "
            f"the fit changes it by {gap:.1g}"
        )
    if np.isfinite(known):
        seen += f"; on fresh episodes it is {known:.3g}"
    return Found(
        "The critic is not trained: its step size is zero or almost zero.",
        f"{seen}.",
        {"critic_step_size": step_size, "gap": gap, "explained_variance": explained,
         "critic_explains": known},
        f"Train with {_USUAL_CRITIC}.",
        ({"critic_step_size": USUAL_CRITIC_STEP_SIZE},) if network else (),
    )  # fmt: skip


def _late(x: np.ndarray) -> np.ndarray:
    """The finite entries of the last third."""
    x = x[-(len(x) // 3 or 1) :]
    return x[np.isfinite(x)]


def critic_explains_nothing(e: Examination, t: Thresholds) -> Found | None:
    """The critic predicts worse than a constant, on the next batch and on fresh episodes."""
    before = _late(e.metric("explained_variance_before"))
    known = e.sample.critic_explains if e.sample else float("nan")
    if e.updates < t["updates"] or not len(before):
        return None
    late = float(np.median(before))
    varies = e.sample is not None and e.sample.returns_vary >= t["returns_vary"]
    if not (varies and late < t["explained"] and known < t["explained"]):
        return None
    return Found(
        "The critic explains nothing: it predicts returns worse than a constant would.",
        f"Its explained variance is {late:.3g} before the fit, in the median of the last third of "
        f"{e.updates} updates, and {known:.3g} on fresh episodes.",
        {"explained_variance": late, "critic_explains": known},
        *_better_critic(Settings.of(e)),
    )


def _better_critic(settings: Settings) -> tuple[str, Proposals]:
    if not settings.value_network:
        proposes = ({"baseline": "value-network"},) if settings.describes("estimator") else ()
        return "Train with a value network: --baseline value-network.", proposes
    step_size, epochs = settings["critic_step_size"], settings["critic_epochs"]
    if step_size > 3 * USUAL_CRITIC_STEP_SIZE:
        proposed = {"critic_step_size": USUAL_CRITIC_STEP_SIZE}
        return f"Train with {_USUAL_CRITIC} in place of {step_size:g}.", (proposed,)
    if 2 * epochs < USUAL_CRITIC_EPOCHS:
        proposed = {"critic_epochs": USUAL_CRITIC_EPOCHS}
        return f"Train with --critic-epochs {USUAL_CRITIC_EPOCHS}.", (proposed,)
    return (
        f"Train with --baseline linear-features, or with --critic-epochs {2 * epochs}.",
        ({"baseline": "linear-features"}, {"critic_epochs": 2 * epochs}),
    )


def critic_overfits(e: Examination, t: Thresholds) -> Found | None:
    """The critic predicts the batch it was fitted to, and not the next one."""
    before = _late(e.metric("explained_variance_before"))
    after = _late(e.metric("explained_variance_after"))
    if e.updates < t["updates"] or not len(before) or not len(after):
        return None
    early, late = float(np.median(before)), float(np.median(after))
    learned = late > t["after"] and late - early > t["gap"] and early < t["before"]
    varies = e.sample is not None and e.sample.returns_vary >= t["returns_vary"]
    if not (learned and varies):
        return None
    settings = Settings.of(e)
    epochs, fewer = settings["critic_epochs"], ""
    name = "batch_episodes" if settings["batch_episodes"] else "batch_steps"
    size = settings[name]
    proposes: Proposals = () if size == "adaptive" else ({name: 2 * size},)
    if epochs:
        fewer = f"--critic-epochs {max(1, epochs // 5)} in place of {epochs}, or with "
        proposes = ({"critic_epochs": max(1, epochs // 5)}, *proposes)
    larger = "a larger batch" if size == "adaptive" else f"a larger batch ({flag(name)} {2 * size})"
    return Found(
        "The critic overfits: it fits each batch closely and does not predict the next one.",
        f"Explained variance is {early:.3g} before the fit and {late:.3g} after it, in the median "
        f"of the last third of {e.updates} updates.",
        {"before": early, "after": late, "critic_epochs": epochs},
        f"Train with {fewer}{larger}.",
        proposes,
    )


def baseline_hurts(e: Examination, t: Thresholds) -> Found | None:
    """The gradient has more variance with the baseline than without."""
    c = e.comparison
    if c is None or WITHOUT not in c.estimators or c.reference != WITH:
        return None
    x = c.estimators[WITHOUT].variance_ratio
    if not 0 < x.high < 1 / (1 + t["share"]):
        return None
    ratio = Measured(1 / x.value, 1 / x.high, 1 / x.low if x.low > 0 else np.inf)
    return Found(
        "The baseline hurts: the gradient is noisier with it than without.",
        f"On {c.episodes} fresh episodes it multiplies the gradient's variance by "
        f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}].",
        {"times": ratio.value, "times_low": ratio.low, "times_high": ratio.high},
        f"Train with --baseline linear-features, or with {_USUAL_CRITIC}.",
        ({"baseline": "linear-features"}, {"critic_step_size": USUAL_CRITIC_STEP_SIZE}),
    )


def lambda_far_from_best(e: Examination, t: Thresholds) -> Found | None:
    """With another λ the gradient points far better at the true gradient, beyond the intervals."""
    c = e.comparison
    flags = [] if c is None else [name for name in c.estimators if name.startswith(LAMBDA_FLAG)]
    if c is None or not flags or IN_USE not in c.estimators:
        return None
    ours = c.estimators[IN_USE].cosine
    name = max(flags, key=lambda k: c.estimators[k].cosine.low)
    best = c.estimators[name].cosine
    if not (best.low > ours.high and best.value > t["times"] * max(ours.value, 0.0)):
        return None
    return Found(
        "λ is far from the best for this policy and batch.",
        f"A batch's gradient has a cosine of {ours.value:.2f} [{ours.low:.2f}, {ours.high:.2f}] "
        f"with that of the rewards themselves, and of {best.value:.2f} [{best.low:.2f}, "
        f"{best.high:.2f}] with {name}.",
        {"cosine": ours.value, "best_cosine": best.value, "best": name},
        f"Measured at one point of training: look at several (--points 3), and try it (--try): "
        f"--estimator gae {name}.",
        ({"estimator": "gae", "gae_lambda": float(name.removeprefix(LAMBDA_FLAG))},),
    )


RULES = (
    Rule(
        "discount-too-low",
        {"horizon": 5.0, "episodes_horizons": 8.0},
        "γ^(8/(1−γ)) < 0.001: rewards eight horizons ahead count less than a thousandth; usual are "
        "0.9 to 0.999.",
        0.84,
        discount_too_low,
        (*SYMPTOMS, "lambda-too-low"),
    ),
    Rule(
        "lambda-too-low",
        {"lambda": 0.5, "explained": 0.8, "returns_vary": 0.1},
        "Schulman et al. 2016: with λ < 1 the critic's errors bias the gradient; 0.9 to 0.99 did "
        "best. Returns that vary by less than a tenth of their size leave nothing to explain.",
        0.82,
        lambda_too_low,
        (*SYMPTOMS, "critic-not-trained"),
    ),
    Rule(
        "critic-not-trained",
        CRITIC_NOT_TRAINED,
        "The step size is below a thousandth of the usual 1e-3; or the fit adds less than 0.005 to "
        "an explained variance below that of a constant.",
        0.8,
        critic_not_trained,
        SYMPTOMS,
    ),
    Rule(
        "discount-too-high",
        {"truncated": 0.5, "horizon": 500.0, "horizons_episode": 20.0},
        "γ^length > 0.95: an episode shows a twentieth of the return; Pardo et al. 2018.",
        0.6,
        discount_too_high,
        ("time-limit-dominates", "critic-explains-nothing", "critic-overfits"),
    ),
    Rule(
        "baseline-hurts",
        {"share": 0.2},
        "Greensmith et al. 2004: a baseline may add variance. Here it adds a fifth or more, beyond "
        "a 95 % interval.",
        0.55,
        baseline_hurts,
        ("critic-explains-nothing",),
    ),
    Rule(
        "critic-explains-nothing",
        {"updates": 10, "explained": -0.1, "returns_vary": 0.1},
        "A constant explains zero; below zero the critic adds variance. If returns vary by less "
        "than a tenth of their size, as in a solved task, there is nothing to explain.",
        0.5,
        critic_explains_nothing,
    ),
    Rule(
        "critic-overfits",
        {"updates": 10, "gap": 0.6, "before": 0.2, "after": 0.5, "returns_vary": 0.1},
        "The fit gains 0.6 of explained variance or more, and the next batch keeps little of it. "
        "In healthy runs of ten updates and more the fit gained 0.3 at most.",
        0.45,
        critic_overfits,
    ),
    Rule(
        "lambda-far-from-best",
        {"times": 2.0},
        "Bias and variance are measured on the same episodes, against rewards to go, which no "
        "critic biases but at a time limit that bootstraps. A cosine twice as large is worth a "
        "batch at least four times as large.",
        0.4,
        lambda_far_from_best,
    ),
)
