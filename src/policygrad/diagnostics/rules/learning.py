"""What is wrong with how the policy moves: batch, entropy bonus, step size, noise."""

import numpy as np

from policygrad.core.settings import flag
from policygrad.core.usual import BATCH_STEPS
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.rules.advice import knob, other_step, settings_of_algorithm
from policygrad.diagnostics.rules.rule import SYMPTOMS, Found, Rule, Thresholds
from policygrad.diagnostics.rules.settings import Settings
from policygrad.diagnostics.rules.task import at_its_best
from policygrad.diagnostics.sample import Sample

COLLAPSED = {"share_of_greatest": 0.03, "noise": 0.02}


def batch_of_one_episode(e: Examination, t: Thresholds) -> Found | None:
    """A batch is one whole episode."""
    episodes = e.batch_episodes
    if Settings.of(e)["batch_episodes"] is None or not episodes <= t["episodes"]:
        return None
    noise = ""
    numbers: dict[str, float] = {"batch_episodes": episodes}
    if e.noise is not None:
        scale = e.noise.total.noise_scale
        numbers["noise_scale"] = scale.value
        noise = f"; the gradient noise scale is {_about(scale.value)} episodes"
    return Found(
        "The batch is one single episode: its gradient is one sample, and there are no other "
        "episodes to compare its advantages with.",
        f"--batch-episodes is {episodes:g}{noise}.",
        numbers,
        f"Train with --batch-episodes 16 or more, or with segments (--batch-steps {BATCH_STEPS}).",
        ({"batch_episodes": 16}, {"batch_episodes": None, "batch_steps": BATCH_STEPS}),
    )


def _about(x: float) -> str:
    return f"{x:,.3g}" if np.isfinite(x) else "too large to be measured"


def entropy_bonus_too_large(e: Examination, t: Thresholds) -> Found | None:
    """The bonus outweighs advantages of unit size, or keeps the entropy near its greatest value."""
    c = Settings.of(e).entropy_coefficient
    if c < t["coefficient"]:
        return None
    series = e.metric("entropy")
    first = float(series[0]) if len(series) else float("nan")
    now = e.sample.entropy if e.sample else (float(series[-1]) if len(series) else float("nan"))
    greatest = e.sample.greatest_entropy if e.sample else float("nan")
    if np.isfinite(greatest) and greatest > 0:
        untouched = now >= t["share_of_greatest"] * greatest
        seen = f"the policy's entropy is {now:.3g} of at most {greatest:.3g} nats"
    else:
        untouched = now >= first + t["risen"]
        seen = f"the policy's entropy went from {first:.3g} to {now:.3g} nats"
    if not (c >= t["outweighs"] or (untouched and e.updates >= t["updates"])):
        return None
    return Found(
        "The entropy bonus is too large: the policy is paid for being random.",
        f"--entropy-coefficient is {c:g}, where advantages have unit size; {seen} after "
        f"{e.updates} updates.",
        {"entropy_coefficient": c, "entropy": now, "first_entropy": first, "greatest": greatest},
        "Train with --entropy-coefficient 0.01 or 0.",
        settings_of_algorithm(e, {"entropy_coefficient": 0.01}, {"entropy_coefficient": 0.0}),
    )


def entropy_collapsed(e: Examination, t: Thresholds) -> Found | None:
    """The entropy or the noise of the actions is near zero, and the return is below its best."""
    s, settings = e.sample, Settings.of(e)
    if s is None or not settings.describes("policy"):
        return None
    if np.isfinite(s.action_noise):
        seen = f"The noise of the actions is {s.action_noise:.3g} half ranges"
    else:
        seen = f"The policy's entropy is {s.entropy:.3g} of at most {s.greatest_entropy:.3g} nats"
    returns = e.metric("return_mean")
    returns = returns[np.isfinite(returns)]
    if not _hardly_explores(s, t) or at_its_best(e, t["progress"]):
        return None
    best = returns.max() if len(returns) else float("nan")
    now = returns[-1] if e.cut_short and len(returns) else s.returns.mean
    initial = settings.log_std
    planted = np.isfinite(s.action_noise) and initial is not None and initial < np.log(t["noise"])
    bonus = settings_of_algorithm(e, {"entropy_coefficient": 0.01})
    proposes = ({"log_std": -0.5},) if planted else bonus + other_step(settings, smaller=True)[1]
    return Found(
        "The entropy has collapsed: the policy hardly explores any more.",
        f"{seen}; the mean return is {now:.4g} and was {best:.4g} at its best in "
        "training.",
        {"entropy": s.entropy, "action_noise": s.action_noise, "best_return": float(best)},
        "Train with --log-std -0.5." if planted else
        "Train with --entropy-coefficient 0.01, or with a smaller --step-size or --target-kl.",
        proposes,
    )  # fmt: skip


def _hardly_explores(s: Sample, t: Thresholds) -> bool:
    """Whether the entropy, or the noise of the actions, is near zero."""
    if np.isfinite(s.action_noise):
        return 0 <= s.action_noise < t["noise"]
    return s.entropy < t["share_of_greatest"] * s.greatest_entropy


def step_size_too_large(e: Examination, t: Thresholds) -> Found | None:
    """The KL of single updates, or the size of single weight changes, is far above the usual."""
    kl = e.metric("kl")
    kl = kl[np.isfinite(kl)]
    if not len(kl):
        return None
    leaps, typical, most = int(np.sum(kl > t["leap"])), float(np.median(kl)), float(kl.max())
    numbers = {"median_kl": typical, "most_kl": most, "leaps": leaps, "updates": len(kl)}
    settings = Settings.of(e)
    change, proposes = other_step(settings, smaller=True)
    # If the KL is set, its median shows the setting. A single large KL does not: the quadratic
    # model of the KL may fail once, and an adapted step may be too long once.
    by_kl, adapted = settings.sized_by_kl, settings.adapts_step
    chance = t["share_natural"] if by_kl else t["share_adapted"] if adapted else 0.0
    at_first = adapted and np.any(kl[: int(t["first"])] > t["leap"])
    too_many = leaps >= t["leaps"] and leaps > chance * len(kl)
    if typical > t["typical"] or at_first or too_many:
        return Found(
            f"The {knob(settings)} is too large: single updates replace the policy.",
            f"KL(old ‖ new) of an update is {typical:.2g} nats in the median and reached "
            f"{most:.3g} at update {int(np.argmax(kl)) + 1}; {leaps} of {len(kl)} updates exceeded "
            f"{t['leap']:g}. Usual are 0.003 to 0.03.",
            numbers,
            change,
            proposes,
        )
    sizes = e.metric("step_size")
    normalised = settings.describes("optimiser") and settings["optimiser"] in ("adam", "rmsprop")
    steps = settings.minibatch_steps
    if not (steps and normalised and len(sizes) and np.nanmax(sizes) > t["weight_step"]):
        return None
    return Found(
        "The step size is too large: minibatch steps change the network's weights too much, and "
        "the KL of the whole update does not show it.",
        f"Each of {steps} minibatch steps an update moves every weight by about "
        f"{np.nanmax(sizes):.2g}, where the weights of a layer of 64 are about 0.2 in size.",
        {**numbers, "step_size": float(np.nanmax(sizes)), "minibatch_steps": steps},
        change,
        proposes,
    )


def step_size_too_small(e: Examination, t: Thresholds) -> Found | None:
    """The KL of the updates is far below the usual, of a policy that explores.

    A deterministic policy moves no more, however long the steps are.
    """
    kl = e.metric("kl")
    kl = kl[np.isfinite(kl)]
    if len(kl) < t["updates"] or (e.sample is not None and _hardly_explores(e.sample, t)):
        return None
    typical = float(np.median(kl))
    above = np.flatnonzero(kl > t["typical"])
    still = int(above[0]) if len(above) else len(kl)  # updates before the first that moved it
    settings = Settings.of(e)
    # an adapted step is given time to grow
    least = t["frozen"] if settings.adapts_step else t["typical"]
    if not (typical < least or still >= t["still"]):
        return None
    sizes = e.metric("step_size")
    grown = ""
    if len(sizes) == len(e.metric("kl")) and still < len(kl) and sizes[still] > sizes[0] > 0:
        grown = f", while --target-kl raised the step size {sizes[still] / sizes[0]:.3g}-fold"
    return Found(
        f"The {knob(settings)} is too small: updates leave the policy as it is.",
        f"KL(old ‖ new) of an update is {typical:.2g} nats in the median, and below "
        f"{t['typical']:g} in each of the first {still} of {len(kl)} updates{grown}. Usual are "
        "0.003 to 0.03.",
        {"median_kl": typical, "still_updates": still, "updates": len(kl)},
        *other_step(settings, smaller=False),
    )


def batch_below_noise_scale(e: Examination, t: Thresholds) -> Found | None:
    """The batch is small, and far below the noise scale of its gradient."""
    batch = e.batch_episodes
    if e.noise is None or not np.isfinite(batch):
        return None
    steps = batch * e.sample.lengths.mean if e.sample else e.batch_steps
    scale = e.noise.total.noise_scale
    if steps > t["steps"] or not scale.low > t["times"] * batch:
        return None
    name, size = "batch_steps", BATCH_STEPS
    if Settings.of(e)["batch_episodes"]:
        name, size = "batch_episodes", max(16, round(BATCH_STEPS / max(steps / batch, 1)))
    return Found(
        "The batch is far below the gradient noise scale: its gradient points nearly at random.",
        f"A batch of about {batch:.3g} episodes ({steps:.0f} steps) faces a noise scale of at "
        f"least {scale.low:,.3g} episodes (estimate {_about(scale.value)}), so that its cosine "
        f"with the true gradient is at most {(1 + scale.low / batch) ** -0.5:.2f}.",
        {"batch_episodes": batch, "batch_steps": steps, "noise_scale": scale.value,
         "noise_scale_low": scale.low},
        f"Train with {flag(name)} {size} or more.",
        ({name: size},),
    )  # fmt: skip


def too_few_episodes(e: Examination, t: Thresholds) -> Found | None:
    """Fewer than ten episodes ended in training."""
    episodes = e.metric("episodes")
    if not len(episodes) or not episodes[-1] < t["episodes"]:
        return None
    length = e.sample.lengths.mean if e.sample else float("nan")
    enough = 100 * length if np.isfinite(length) else 10 * e.env_steps
    return Found(
        "Too few episodes have ended for the returns to mean anything.",
        f"{episodes[-1]:.0f} episodes ended in {e.env_steps:,} steps of training"
        + (f"; an episode takes about {length:,.0f}." if np.isfinite(length) else "."),
        {"episodes": float(episodes[-1]), "env_steps": e.env_steps, "length": length},
        f"Train longer: --total-steps {_round(enough):,}".replace(",", "") + " or more"
        " (or fewer --num-envs, which cut a short run into many unfinished episodes).",
    )


def _round(x: float) -> int:
    digits = max(len(str(int(x))) - 1, 0)
    return int(np.ceil(x / 10**digits)) * 10**digits


RULES = (
    Rule(
        "batch-of-one-episode",
        {"episodes": 1},
        "By definition: with one episode the variance can be neither estimated nor averaged away; "
        "Greensmith et al. 2004.",
        0.92,
        batch_of_one_episode,
        (*SYMPTOMS, "step-size-too-large", "step-size-too-small", "too-few-episodes"),
    ),
    Rule(
        "entropy-bonus-too-large",
        {
            "coefficient": 0.05,
            "outweighs": 0.3,
            "share_of_greatest": 0.95,
            "risen": 0.3,
            "updates": 10,
        },
        "Haarnoja et al. 2017: the best policy under a bonus c is ∝ exp(A/c). It is nearly uniform "
        "if c is as large as the spread of the action values, which is below the unit spread of "
        "normalised advantages. Usual are 0 to 0.01 (Mnih et al. 2016, Schulman et al. 2017).",
        0.92,
        entropy_bonus_too_large,
        (*SYMPTOMS, "step-size-too-large", "step-size-too-small"),
    ),
    Rule(
        "step-size-too-large",
        {
            "typical": 0.1,
            "leap": 0.5,
            "leaps": 1,
            "share_natural": 0.05,
            "share_adapted": 0.1,
            "first": 5,
            "weight_step": 0.01,
        },
        "Schulman et al. 2015 hold the KL at 0.01, Schulman et al. 2017 at 0.003 to 0.03. At 0.5 "
        "nats the log-probability of an action changes by about 1 in the root mean square: a "
        "factor e. Adam and RMSProp move each weight by about the step size. A step size of 0.01 "
        "is thirty times that of Schulman et al. 2017, and moves a weight by a twentieth of its "
        "size a minibatch.",
        0.88,
        step_size_too_large,
        SYMPTOMS,
    ),
    Rule(
        "step-size-too-small",
        {
            "typical": 1e-4,
            "updates": 3,
            "still": 8,
            "frozen": 1e-6,
            **COLLAPSED,
        },
        "A hundredth of the usual KL of 0.01 is a tenth of the usual step. Where the step size "
        "adapts, the KL rises 2.25-fold an update, 700-fold in eight.",
        0.86,
        step_size_too_small,
        SYMPTOMS,
    ),
    Rule(
        "entropy-collapsed",
        {**COLLAPSED, "progress": 0.9},
        "Mnih et al. 2016 describe premature convergence. At 3 % of the greatest entropy of two "
        "actions, the rarer one has a probability of 0.3 %.",
        0.7,
        entropy_collapsed,
        ("return-collapsed", "below-random", "no-better-than-random"),
    ),
    Rule(
        "batch-below-noise-scale",
        {"steps": 512, "times": 10},
        "McCandlish et al. 2018: cos = (1 + B/N)^(−1/2), which is 0.3 if the noise scale B is ten "
        "times the batch N. Batches of thousands of steps do learn below their noise scale, "
        "smaller ones rarely.",
        0.5,
        batch_below_noise_scale,
    ),
    Rule(
        "too-few-episodes",
        {"episodes": 10},
        "The standard error of a mean of ten returns is a third of their standard deviation.",
        0.3,
        too_few_episodes,
    ),
)
