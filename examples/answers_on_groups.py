"""Three answers of docs/answers.md, on groups of episodes from one start; `answers.py` runs them."""

# ruff: noqa: E501 (the prose of the page is as wide as it reads well)

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from policygrad import baselines, estimators
from policygrad.figures.style import new_figure, titled
from policygrad.gradients import groups
from policygrad.gradients.groups import GroupEstimator, Groups
from policygrad.gradients.groups.baselines import GroupMean, Value, Zero
from policygrad.gradients.groups.lengths import MeanLength, OwnLength, Sum
from policygrad.gradients.groups.normalisation import Unchanged
from policygrad.tabular import (
    FiniteMDP,
    Outcomes,
    SoftmaxPolicy,
    gallery,
    group_moments,
    moments,
    outcomes_of,
    solve,
)

BUDGET = 32  # answers of a batch
WORDS, LONGEST, LOGIT = ("a", "abb"), 5, 1.0
GRPO = groups.grpo(own_length=False)
OTHERS = groups.leave_one_out_over_deviation_of_others


def table(header: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; floats to four significant digits."""

    def cell(x: object) -> str:
        return f"{x:.4g}" if isinstance(x, float) else str(x)

    lines = [header, ["---"] * len(header), *[[cell(x) for x in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def two_answers(p: float) -> Outcomes:
    """A right answer of probability p, which earns 1, and a wrong one; one logit."""
    features = np.zeros((2, 2, 1))
    features[:, 0] = 1.0
    policy = SoftmaxPolicy(np.array([np.log(p / (1 - p))]), features)
    return outcomes_of(gallery.two_armed_bandit().mdp, policy)


def three_answers() -> Outcomes:
    """Answers that earn 0, 0.5 and 1, the best one in a hundred."""
    transitions = np.zeros((2, 3, 2))
    transitions[:, :, 1] = 1.0
    mdp = FiniteMDP(transitions, [[0.0, 0.5, 1.0], [0, 0, 0]], [1, 0])
    theta = np.log([[0.66, 0.33, 0.01], [1, 1, 1]])
    return outcomes_of(mdp, SoftmaxPolicy.of(theta))


def task(logit: float = LOGIT) -> gallery.Task:
    """An easy and a hard prompt."""
    return gallery.token_task(WORDS, LONGEST, logit=logit)


def deviation(figures: Path) -> str:
    """What does dividing by the deviation of the group do to the direction, and when does it blow up?"""
    chances, sizes = (0.01, 0.05, 0.1, 0.25, 0.5), (2, 4, 16, 64)
    factors = {
        (p, k): group_moments(two_answers(p), GRPO, group_size=k).length
        for p in chances
        for k in sizes
    }
    limits = [1 / np.sqrt(p * (1 - p)) for p in chances]
    lengths = [
        [f"{p:g}", *(factors[p, k] for k in sizes), float(limit)]
        for p, limit in zip(chances, limits, strict=True)
    ]

    both = {
        "an easy and a hard prompt": outcomes_of(*gallery.token_task(("a", "abbb"), 5, logit=1.0)),
        "one prompt, returns 0, ½ and 1": three_answers(),
    }
    directions = [
        [name, *(group_moments(x, GRPO, group_size=k).cosine for k in sizes)]
        for name, x in both.items()
    ]
    easy, hard = both["an easy and a hard prompt"].values

    divided = {
        "nothing": groups.rloo(),
        "the deviation of the group": GRPO,
        "the deviation of the others, ε = 10⁻⁶": OTHERS(),
        "the same, not where the others are equal": OTHERS(skip_equal=True),
    }
    rare = (0.01, 0.1, 0.5)
    variances = {
        name: [group_moments(two_answers(p), e, group_size=4).variance for p in rare]
        for name, e in divided.items()
    }

    figure, (left, right) = new_figure(2)
    grid = np.linspace(0.01, 0.99, 60)
    for k in sizes:
        curve = [group_moments(two_answers(p), GRPO, group_size=k).length for p in grid]
        left.plot(grid, curve, label=f"k = {k}")
    left.plot(grid, 1 / np.sqrt(grid * (1 - grid)), "k--", linewidth=0.8, label="1 / deviation")
    left.legend(fontsize=7)
    titled(
        left, "one prompt: how GRPO scales its gradient", "share of right answers", "‖E ĝ‖ / ‖∇J‖"
    )
    for name, e in divided.items():
        curve = [group_moments(two_answers(p), e, group_size=4).variance for p in grid]
        right.semilogy(grid, curve, label=name.replace("⁻⁶", "$^{-6}$"))
    right.legend(fontsize=7)
    titled(right, "variance of a group of 4, divided by …", "share of right answers", "Var ĝ")
    figure.savefig(figures / "deviation.png", dpi=120)

    return f"""It weighs the prompts by how often they are answered right. Take one prompt, of which a share p of the answers is right. All answers then push along one
direction, so that only the length changes: E ĝ is ∇J times the number below. For large groups it is 1 / √(p (1 − p)):
rare successes, and rare failures, count for more. Small groups see little of that, because most of their groups with a
rare success have exactly one:

{table(["p", *(f"k = {k}" for k in sizes), "k → ∞"], lengths)}

Over an easy and a hard prompt of `gallery.token_task`, answered with probability {easy:.2f} and {hard:.2f}, each prompt is
scaled by a number of its own, and the sum turns, the more the larger the groups. Within one prompt the direction turns
only if there are more than two different returns (here the best is one in a hundred), only in small groups, whose
deviation depends on each of their answers, and only a little. Cosine of E ĝ with ∇J; without the division it is 1:

{table(["", *(f"k = {k}" for k in sizes)], directions)}

The deviation of the whole group cannot blow up: |R_i − R̄| is at most (k − 1)/√k times it. **It blows up if numerator
and denominator are of different episodes.** With a leave-one-out baseline and the deviation of the k − 1 others, one
right answer among wrong ones has a deviation of 0 to be divided by, and ε makes a weight of a million out of it
(NeMo-RL, issue 1518). Variance of a group of four:

{table(["divided by", *(f"p = {p:g}" for p in rare)], [[name, *row] for name, row in variances.items()])}

Do not divide (RLOO), and leave the length of the step to the optimiser, as Adam does. If rewards differ in size from
task to task, divide by the deviation of the whole group or of the batch."""


def length_normalisation(figures: Path) -> str:
    """What does length normalisation do?"""
    divisors = {
        "1, or a constant (Dr. GRPO)": Sum(),
        "its own length (GRPO)": OwnLength(),
        "the mean length of the group (DAPO's formula)": MeanLength(within_group=True),
        "the mean length of the batch (`dapo`, token-mean)": MeanLength(),
    }
    made = {k: GroupEstimator(GroupMean(), Unchanged(), x) for k, x in divisors.items()}
    exact, astray = outcomes_of(*task()), _astray()
    rows = []
    for name, estimator in made.items():
        found = group_moments(exact, estimator, group_size=4, groups=2)
        push = _push(found.mean, astray)
        push = 0.0 if abs(push) < 1e-12 else push
        rows.append([name, found.cosine, push, found.relative_variance])

    figure, (left, right) = new_figure(2)
    trained = np.linspace(0, 3, 13)
    for name, estimator in list(made.items())[:3]:
        cosines = [
            group_moments(outcomes_of(*task(x)), estimator, group_size=4).cosine for x in trained
        ]
        left.plot(trained, cosines, label=f"divided by {name}")
        right.plot(_ends(estimator, astray))
    left.legend(fontsize=7)
    titled(left, "direction", "logit of the right token", "cosine of E ĝ and ∇J")
    titled(
        right, "along steps in the direction E ĝ", "step", "probability of `end` after a mistake"
    )
    figure.savefig(figures / "length_normalisation.png", dpi=120)
    before, after = (_ends(made["its own length (GRPO)"], astray)[i] for i in (0, -1))
    return f"""It makes wrong answers longer, and turns the gradient. A wrong answer has a negative weight, and dividing by its
length makes the push against it smaller the longer it is. In `gallery.token_task` an answer that went wrong earns
nothing, however it goes on: the gradient of J is exactly 0 there. Divided by its own length, the expected estimate
pushes against the token `end`. Subtracted is the group mean; two groups of four. The push is the sum of E ĝ over
the logits of `end` after a mistake, as a share of ‖E ĝ‖:

{table(["sum of an answer's scores divided by", "cosine with ∇J", "push on `end`", "Var / ‖E ĝ‖²"], rows)}

Along {STEPS} steps in the direction of E ĝ, the probability of `end` after a mistake falls from {before:.3f} to
{after:.3f} with GRPO's division, and stays where it is without one. A mean length does the same in small, because it contains
the answer's own. A constant only scales. The direction with less bias is not the one with less noise: dividing by the
own length has the smallest relative variance here."""


STEPS = 60


def _astray() -> np.ndarray:
    """`[S]`, the states from which no reward is left, though the answer goes on."""
    mdp, policy = task()
    values = solve(mdp, policy, discount=1.0).values
    return np.all(values == 0, axis=0) & ~mdp.absorbing


def _push(direction: np.ndarray, astray: np.ndarray) -> float:
    """Sum over the logits of `end` after a mistake, as a share of the length of the direction."""
    logits = direction.reshape(len(astray), -1)
    return float(logits[astray, -1].sum() / np.linalg.norm(direction))


def _ends(estimator: GroupEstimator, astray: np.ndarray) -> list[float]:
    """The mean probability of `end` after a mistake, along steps of one length along E ĝ."""
    mdp, policy = task()
    theta, found = np.array(policy.theta), []
    for _ in range(STEPS + 1):
        moved = SoftmaxPolicy(theta)
        pi = np.exp(theta) / np.exp(theta).sum(axis=1, keepdims=True)
        found.append(float(pi[astray, -1].mean()))
        mean = group_moments(outcomes_of(mdp, moved), estimator, group_size=4).mean
        theta = theta + 0.2 * (mean / np.linalg.norm(mean)).reshape(theta.shape)
    return found


@dataclass(frozen=True)
class ScaledValue(Value):
    """V times a number: a value that is wrong."""

    scale: float = 1.0

    def of(self, groups: Groups):
        return self.scale * super().of(groups)


@dataclass(frozen=True)
class Offset(Zero):
    """Nothing subtracted, where every answer earns 1 more."""

    def of(self, groups: Groups):
        return super().of(groups) - 1.0


def group_baselines(figures: Path) -> str:
    """Group mean, leave-one-out, or a learned value?"""
    half = GroupEstimator(ScaledValue(0.5), Unchanged(), Sum())
    made = {
        "none": groups.plain(),
        "none, and every answer earns 1 more": GroupEstimator(Offset(), Unchanged(), Sum()),
        "group mean": groups.group_mean(),
        "leave-one-out (RLOO)": groups.rloo(),
        "length-weighted mean (OPO)": groups.opo(),
        "shrinkage": groups.shrinkage(),
        "greedy answer (ReMax)": groups.remax(),
        "half the value of the prompt": half,
        "value of the prompt": groups.value(),
        "batch mean and deviation (REINFORCE++)": groups.reinforce_plus_plus(),
        "group mean, then both (REINFORCE++ baseline)": groups.reinforce_plus_plus_baseline(),
    }
    stages = {logit: outcomes_of(*task(logit)) for logit in STAGES}
    found = {
        (name, logit, k): group_moments(exact, e, group_size=k, groups=BUDGET // k)
        for name, e in made.items()
        for logit, exact in stages.items()
        for k in (SIZES if logit == MIDDLE else (4,))
    }
    rows = []
    for name in made:
        middle = found[name, MIDDLE, 4]
        noise = [found[name, x, 4].relative_variance for x in STAGES]
        rows.append([name, middle.length, middle.cosine, *noise])
    rows.append(["value of every token", 1.0, 1.0, *(_of_every_token(task(x), 4) for x in STAGES)])
    curves = {
        name: [found[name, MIDDLE, k].relative_variance for k in SIZES]
        for name in made
        if name not in ("group mean", "length-weighted mean (OPO)")
    }
    curves["value of every token"] = [_of_every_token(task(MIDDLE), k) for k in SIZES]

    figure, (left, right) = new_figure(2, height=4.2)
    for row in rows:
        if row[0] in curves:
            label = str(row[0]).replace("(RLOO)", "or group mean")
            left.semilogy([x.values.mean() for x in stages.values()], row[3:], "o-", label=label)
            right.semilogy(SIZES, curves[str(row[0])], "o-")
    right.set_xscale("log", base=2)
    right.set_xticks(SIZES, [str(k) for k in SIZES])
    figure.legend(loc="outside lower center", ncols=3, fontsize=7)
    titled(left, f"a batch of {BUDGET} answers, k = 4", "share of right answers", "Var / ‖E ĝ‖²")
    titled(right, "half of the answers right", "answers a prompt, k", "Var / ‖E ĝ‖²")
    figure.savefig(figures / "group_baselines.png", dpi=120)
    over = {
        k: curves["leave-one-out (RLOO)"][i] / curves["value of the prompt"][i] - 1
        for i, k in enumerate(SIZES)
    }
    shares = [f"Var / ‖E ĝ‖², {100 * x.values.mean():.0f} % right" for x in stages.values()]
    late = {name: found[name, STAGES[-1], 4].relative_variance for name in made}
    return f"""Group mean and leave-one-out are the same direction with the same relative noise: R_i − R̄ is (1 − 1/k) times
R_i minus the mean of the others. Only the length differs, which a step size or Adam takes away. A value of the prompt is
less noisy than both, because it is not a mean of few returns: beside the exact value, both have {100 * over[2]:.0f} % more variance
at k = 2, {100 * over[4]:.0f} % at k = 4, {100 * over[8]:.0f} % at k = 8. That is on the easy and the hard prompt of
`gallery.token_task` where half of the answers are right. A batch of {BUDGET} answers, k = 4, at three stages; length and
cosine at the second:

{table(["subtracted", "‖E ĝ‖ / ‖∇J‖", "cosine", *shares], rows)}

**Rewards of 0 and 1 need no baseline here.** The score of an unlikely answer is long. The more answers are right, the
more the long scores are those of wrong answers: without a baseline they weigh 0, and the group mean gives them a weight
of nearly −1. With {100 * stages[STAGES[-1]].values.mean():.0f} % right that is {late["group mean"] / late["none"]:.0f} times the noise. The best baseline
weighs returns by the squared length of the score ([above](#is-er_t-the-optimal-baseline)), and lies far below the value.
What a baseline is for is the offset: if every answer earned 1 more, an estimate without one would be the noisiest of all,
and those with one would not change.

Less noisy than the group mean are half the value, shrinkage towards the other prompts, and a value of every token, which
the critic of PPO is meant to be: it knows in the middle of an answer that it went wrong, which no group can know. ReMax subtracts 1 as
soon as the most probable tokens spell the word, also where most answers are still wrong."""


STAGES, MIDDLE, SIZES = (1.0, 2.0, 4.0), 2.0, (2, 4, 8)


def _of_every_token(given: gallery.Task, k: int) -> float:
    """Var / ‖∇J‖² of a batch in groups of k, each token with its own exact value subtracted."""
    mdp, policy = given
    values = baselines.table(solve(mdp, policy, discount=1.0).values)
    estimator = estimators.reward_to_go(baseline=values)
    starts = np.flatnonzero(mdp.initial_support)
    each = [moments(replace(mdp, initial=np.eye(mdp.states)[s]), policy, estimator) for s in starts]
    means = np.stack([m.mean for m in each])
    p = np.asarray(mdp.edges.initial)[starts]
    mean = p @ means
    within = float(p @ [m.variance for m in each]) / k
    between = float(p @ np.sum((means - mean) ** 2, axis=1))
    return (within + between) * k / BUDGET / float(mean @ mean)
