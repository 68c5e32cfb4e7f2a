"""The post's open questions, answered by exact computation: writes docs/answers.md and its figures.

    python examples/answers.py                       all of it
    python examples/answers.py --only baseline       one section, printed
    python examples/answers.py --out DIRECTORY       somewhere else than docs/

Every number in the page's exact part is computed here, and every picture is drawn here. The last
section, on what was measured along training, is kept as it is.
"""

# ruff: noqa: E501 (the prose of the page is as wide as it reads well)

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from answers_on_groups import deviation, group_baselines, length_normalisation, table
from answers_on_rare_states import rare_states

from policygrad import baselines, estimators, scores
from policygrad.figures.style import bars, new_figure
from policygrad.tabular import (
    SoftmaxPolicy,
    ascend,
    enumerate_trajectories,
    gallery,
    moments,
    optimal_baseline,
    solve,
)

MDPS = 400
SHARED = 1500
Section = Callable[[Path], str]
DOCS = Path(__file__).parents[1] / "docs"
MEASURED = "## In practice"


def tiny(seed: int) -> gallery.Task:
    """A random MDP of 4 states over 5 steps."""
    return gallery.random_mdp(seed, states=4, horizon=5)


def approximations(figures: Path) -> str:
    """How accurate are the two approximations?"""
    plain = estimators.reward_to_go()
    exact = [moments(*tiny(seed), plain) for seed in range(MDPS)]
    one = np.array([m.approximation_i / m.variance for m in exact])
    two = np.array([m.approximation_ii / m.variance for m in exact])
    lengths = (1, 2, 5, 10, 20)
    sparse = [moments(*gallery.sparse_credit(n), plain) for n in lengths]
    share = [m.approximation_i / m.variance for m in sparse]

    figure, (left, right) = new_figure(2)
    left.hist([one, two], bins=30, label=["(i) / Var", "(ii) / Var"])
    left.axvline(1, color="black", linewidth=0.8)
    left.set(xlabel="approximation / variance", ylabel="random MDPs")
    left.legend()
    right.plot(lengths, share, "o-")
    right.axhline(1, color="black", linewidth=0.8)
    right.set(xlabel="steps that must all be right", ylabel="(i) / Var", yscale="log")
    figure.savefig(figures / "approximations.png", dpi=120)

    ends = [np.min, np.median, np.max]
    rows = [[name, *(float(f(x)) for f in ends)] for name, x in (("(i)", one), ("(ii)", two))]
    worst = [[n, m.variance, m.diagonal, s] for n, m, s in zip(lengths, sparse, share, strict=True)]
    return f"""It depends on the task. Approximation (i) is D in Var = D + C − B. It leaves out C, the covariance between
the terms of different times, and B, the squared norm of the gradient. Over {MDPS} random MDPs of 4 states:

{table(["approximation / Var", "least", "median", "greatest"], rows)}

In `gallery.sparse_credit` all states share one parameter, and a reward is earned only if every action of a run is
right. All scores of such a run have the same sign, so C is large. With one step there is no C, and (i) overstates the
variance by B. The more steps, the more (i) understates the variance by leaving out C:

{table(["steps", "Var", "(i)", "(i) / Var"], worst)}"""


def baseline(figures: Path) -> str:
    """Is E[R_t] the optimal baseline?"""
    mdp, policy = gallery.short_corridor()
    solution = solve(mdp, policy, discount=1.0)
    plain = estimators.reward_to_go()
    best = {f: optimal_baseline(mdp, policy, plain, f) for f in ("constant", "state")}

    def variance(b):
        return moments(mdp, policy, replace(plain, baseline=b)).variance

    corridor = {
        "none": variance(baselines.none()),
        "V, the mean of R_t given s_t": variance(baselines.table(solution.values)),
        "constant J": variance(baselines.constant(solution.objective)),
        f"best constant, {float(best['constant'].coefficients):.4f}": best["constant"].variance,
        "best per state": best["state"].variance,
    }
    bandit, choice = gallery.two_armed_bandit()
    choice = SoftmaxPolicy.of([[1.0, 0.0], [0.0, 0.0]])
    value = solve(bandit, choice, discount=1.0)
    swapped = optimal_baseline(bandit, choice, plain, "constant")
    valued = replace(plain, baseline=baselines.table(value.values))
    left = moments(bandit, choice, valued).variance

    ratio = np.array([_value_against_none(tiny(seed)) for seed in range(MDPS)])
    figure, (one, two) = new_figure(2)
    bars(one, list(corridor), list(corridor.values()))
    one.set(title="short corridor", xlabel="variance of one episode")
    two.hist(np.log2(ratio), bins=40)
    two.axvline(0, color="black", linewidth=0.8)
    two.set(xlabel="log₂ of Var(b = V) / Var(b = 0)", ylabel="random MDPs")
    figure.savefig(figures / "baseline.png", dpi=120)
    worse = int(np.sum(ratio > 1))
    return f"""No. E[R_t | s_t] minimises approximation (ii), not the variance. On the short corridor a constant is better:

{table(["baseline", "Var"], [[k, v] for k, v in corridor.items()])}

Take a two-armed bandit with rewards 1 and 0, whose first arm has the probability p = {1 / (1 + np.exp(-1.0)):.4f}.
The baseline b = V = {value.objective:.4f} leaves a variance of {left:.4f}. The best baseline weighs the rewards by the
other arm's probability, b* = {float(swapped.coefficients):.4f}, and leaves no variance. In {worse} of {MDPS} random MDPs
the value function is worse than no baseline at all, by up to a factor of {ratio.max():.2f}."""


def _value_against_none(task: gallery.Task) -> float:
    plain = estimators.reward_to_go()
    values = solve(*task, discount=1.0).values
    valued = replace(plain, baseline=baselines.table(values))
    return moments(*task, valued).variance / moments(*task, plain).variance


def expectations(figures: Path) -> str:
    """Does replacing terms by expectations hold?"""
    errors, ratios, per_step = [], [], []
    for seed in range(MDPS):
        task = tiny(seed)
        critic = baselines.table(solve(*task, discount=1.0).values)
        sampled = moments(*task, estimators.reward_to_go(critic=critic))
        replaced = moments(*task, estimators.td(discount=1.0, critic=critic))
        errors.append(np.abs(replaced.mean - sampled.mean).max())
        ratios.append(replaced.variance / sampled.variance)
        per_step.append(replaced.diagonal / sampled.diagonal)
    shared = np.array([_replaced_against_sampled(_shared(seed)) for seed in range(SHARED)])
    rises = shared > 1
    task = gallery.chain()
    values = solve(*task, discount=1.0).values
    wrong = moments(*task, estimators.td(discount=1.0, critic=baselines.table(values / 2)))

    figure, axes = new_figure()
    axes.scatter(per_step, ratios, s=6)
    axes.axline((1, 1), slope=1, color="grey", linewidth=0.8)
    axes.set(xlabel="D: TD / reward to go", ylabel="Var: TD / reward to go")
    figure.savefig(figures / "expectations.png", dpi=120)
    rows = [
        ["largest difference of the means", _tiny(max(errors))],
        ["D after / D before, greatest", float(max(per_step))],
        ["Var after / Var before, median", float(np.median(ratios))],
        ["Var after / Var before, greatest", float(max(ratios))],
    ]
    off = np.linalg.norm(wrong.bias) / np.linalg.norm(wrong.gradient)
    return f"""Yes, in expectation, by the tower rule, if the expectation that replaces a term is exact. Here R_t − V is
replaced by r_t + V(s_{{t+1}}) − V(s_t), over {MDPS} random MDPs:

{table(["", "value"], rows)}

D is the sum of the second moments of the single terms. It can only fall, because an expectation has less spread than
what it is the expectation of. The variance of the sum may rise, if C rises by more. That is rare and small: the
variance rose in none of these MDPs, and in {int(rises.sum())} of {SHARED} smaller random MDPs whose states share one
parameter, by {100 * (shared.max() - 1):.1f} % at most. If the critic is wrong, the mean changes: with V/2 on the
chain, the bias of TD is {off:.2f} of ‖∇J‖."""


def _shared(seed: int) -> gallery.Task:
    """A random MDP of 3 states over 3 steps, and one parameter for all of them."""
    rng = np.random.default_rng(seed)
    mdp, _ = gallery.random_mdp(seed, states=3, horizon=3)
    return gallery.Task(mdp, SoftmaxPolicy.of(1.5 * rng.normal(size=1), rng.normal(size=(3, 2, 1))))


def _replaced_against_sampled(task: gallery.Task) -> float:
    critic = baselines.table(solve(*task, discount=1.0).values)
    replaced = moments(*task, estimators.td(discount=1.0, critic=critic))
    return replaced.variance / moments(*task, estimators.reward_to_go(critic=critic)).variance


def exchange(figures: Path) -> str:
    """Is the gradient's exchange with the integral always allowed?"""
    # equal weights at midpoints: an integral, not a sample
    u = (np.arange(200_000) + 0.5) / 200_000
    theta = 2.0
    with jax.enable_x64(True):
        uniform = scores.score_function_gradient(
            lambda t, x: -jnp.log(t), jnp.array(theta), jnp.array(theta * u), jnp.array(theta * u)
        )
        x = theta - jnp.log1p(-jnp.array(u))  # θ + exponential: the support moves with θ too
        shifted = scores.score_function_gradient(lambda t, x: t - x, jnp.array(theta), x, x)
        x = -theta * jnp.log1p(-jnp.array(u))  # exponential of mean θ: the support is fixed
        scaled = scores.score_function_gradient(
            lambda t, x: -jnp.log(t) - x / t, jnp.array(theta), x, x
        )
    rows = [
        ["Uniform(0, θ)", "moves", 0.5, float(uniform)],
        ["θ + Exponential(1)", "moves", 1.0, float(shifted)],
        ["Exponential(mean θ)", "fixed", 1.0, float(scaled)],
    ]
    figure, axes = new_figure()
    place = np.arange(len(rows))
    axes.bar(place - 0.2, [r[2] for r in rows], 0.4, label="∂E[x]/∂θ")
    axes.bar(place + 0.2, [r[3] for r in rows], 0.4, label="E[x ∂log p/∂θ]")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(place, [r[0] for r in rows], fontsize=7)
    axes.legend()
    figure.savefig(figures / "exchange.png", dpi=120)
    return f"""No. It is safe where the support does not depend on θ and ∇p_θ f is dominated. For f(x) = x at θ = {theta:g}
the log-derivative trick, integrated numerically, gives:

{table(["distribution", "support", "∂E[x]/∂θ", "E[x ∂log p/∂θ]"], rows)}

For Uniform(0, θ) even the sign is wrong: the score knows nothing of the mass at the moving end. A softmax policy on a
finite MDP has a fixed support and finite sums, so there the exchange is always allowed."""


def forms(figures: Path) -> str:
    """Are the three forms equivalent?"""
    mdp, policy = tiny(0)
    mdp = replace(mdp, horizon=3)
    paths = enumerate_trajectories(mdp, policy)
    with jax.enable_x64(True):
        record = paths.trajectories()

        def each(weights_or_rewards, gradient):
            def one(record, x):
                column = jax.tree.map(lambda leaf: leaf[:, None], record)
                return gradient(policy, column, x[:, None]).theta

            return np.asarray(jax.vmap(one, in_axes=1)(record, weights_or_rewards))

        nothing = estimators.EstimatorState((), ())
        whole, to_go = (
            each(e.weights(nothing, record).psi, scores.policy_gradient)
            for e in (estimators.total_return(), estimators.reward_to_go())
        )
        indexed = each(record.rewards, scores.reward_indexed_gradient)
    p = paths.probabilities[:, None, None]
    exact = [
        moments(mdp, policy, make()).variance
        for make in (estimators.total_return, estimators.reward_indexed, estimators.reward_to_go)
    ]
    figure, (left, right) = new_figure(2)
    for axes, other, name in ((left, indexed, "(ii)"), (right, whole, "(i)")):
        axes.scatter(to_go[:, 0, 0], other[:, 0, 0], s=3)
        axes.set(
            xlabel="form (iii)", ylabel=f"form {name}", title="first entry of ĝ, each trajectory"
        )
    figure.savefig(figures / "forms.png", dpi=120)
    largest, means = np.abs(indexed - to_go).max(), np.abs((p * (whole - to_go)).sum(0)).max()
    rows = [
        ["(ii) and (iii), largest difference on any trajectory", _tiny(largest)],
        ["(i) and (iii), largest difference on any trajectory", float(np.abs(whole - to_go).max())],
        ["(i) and (iii), largest difference of the means", _tiny(means)],
        ["Var of (i)", exact[0]],
        ["Var of (ii)", exact[1]],
        ["Var of (iii)", exact[2]],
    ]
    return f"""(ii) and (iii) are the same random variable, summed in another order. (i) has the same mean, but is another
random variable. Over all {len(paths.probabilities):,} trajectories of a random MDP, each sent through the training code:

{table(["", "value"], rows)}

Linearity of the expectation alone does not lead from (i) to (ii). It also takes causality: a reward is uncorrelated
with the scores of later actions."""


def _tiny(x: float) -> str:
    """An error at the level of rounding, without digits that a machine may change."""
    return "below 1e-12" if x < 1e-12 else f"{x:.1e}"


def discount(figures: Path) -> str:
    """What does the discount cost?"""
    task = gallery.chain()
    gammas = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
    rows = []
    for gamma in gammas:
        made = [
            moments(*task, e, objective_discount=1.0)
            for e in (
                estimators.reward_to_go(discount=gamma),
                estimators.reward_to_go(discount=gamma, discounted_states=True),
            )
        ]
        norm = np.linalg.norm(made[0].gradient)
        row = [gamma]
        for m in made:
            relative = float(np.linalg.norm(m.bias) / norm)
            row += [0.0 if relative < 1e-12 else relative, m.variance]
        rows.append(row)

    mdp, policy = gallery.discounted_counterexample()
    best = ascend(mdp, policy, discount=0.5, iterations=30)
    curve, theta = [], policy.theta
    for _ in range(31):
        moved = SoftmaxPolicy(theta, policy.features)
        solution = solve(mdp, moved, discount=0.5)
        curve.append(solution.objective)
        theta = theta + 4.0 * solution.usual_direction

    figure, (left, right) = new_figure(2)
    array = np.array(rows)
    left.plot(array[:, 1], array[:, 2], "o-", label="γ^t dropped")
    left.plot(array[:, 3], array[:, 4], "o-", label="γ^t kept")
    left.set(
        xlabel="bias / ‖∇J‖ of the undiscounted J", ylabel="variance", title="chain, γ from ½ to 1"
    )
    left.legend()
    right.plot(best.objectives, label="∇J, γ^t kept")
    right.plot(curve, label="usual direction, γ^t dropped")
    right.set(xlabel="iteration", ylabel="J at γ = ½", title="discounted counterexample")
    right.legend()
    figure.savefig(figures / "discount.png", dpi=120)
    header = ["γ", "dropped: bias / ‖∇J‖", "dropped: Var", "kept: bias / ‖∇J‖", "kept: Var"]
    return f"""It costs bias against the undiscounted objective, and buys less variance. On the chain, whose reward is at the
far end:

{table(header, rows)}

Dropping γ^t gives a direction that is not the gradient of any function. It may even lower the objective that γ
defines. On `gallery.discounted_counterexample` at γ = ½ both start at J = {curve[0]:.4f}. The gradient climbs to J =
{best.objective:.4f}, and the usual direction ends at J = {curve[-1]:.4f}."""


def parallel(figures: Path) -> str:
    """Does running actors in parallel fix approximation (i)?"""
    exact = moments(*gallery.sparse_credit(10), estimators.reward_to_go())
    actors = (1, 4, 16, 64)
    rows = [
        [
            n,
            exact.variance / n,
            exact.diagonal / n,
            exact.cross / n,
            exact.diagonal / exact.variance,
        ]
        for n in actors
    ]
    figure, axes = new_figure()
    axes.loglog(actors, [r[1] for r in rows], "o-", label="Var")
    axes.loglog(actors, [r[2] for r in rows], "o-", label="approximation (i)")
    axes.set(xlabel="parallel actors", ylabel="variance of their mean")
    axes.legend()
    figure.savefig(figures / "parallel.png", dpi=120)
    return f"""No. Independent actors divide every part of the variance by their number, C included, because C is between the
steps of ONE trajectory. On `gallery.sparse_credit(10)`:

{table(["actors", "Var", "(i)", "C", "(i) / Var"], rows)}"""


SECTIONS: dict[str, Section] = {
    f.__name__: f
    for f in (
        approximations,
        baseline,
        expectations,
        exchange,
        forms,
        discount,
        parallel,
        rare_states,
        deviation,
        length_normalisation,
        group_baselines,
    )
}

INTRODUCTION = """# Answers

The open questions of Daniel Seita's post of 2017 and of its readers, one on a task where plain policy gradients lose
their way, and three on groups of answers to one prompt, as language models are trained. Each is settled by exact computation on finite MDPs with `policygrad.tabular`. The first two
were also measured along training ([in practice](#in-practice)). Variances are those of one episode, where the text does
not name a group or a batch. This command writes all but the last section:

    python examples/answers.py
"""


def measured() -> str:
    """The end of the page as it is, from its heading on: measured by hours of training, not here."""
    written = (DOCS / "answers.md").read_text()
    return written[written.index(MEASURED) :]


def page(out: Path) -> str:
    """The whole page, its figures drawn into `out`/figures."""
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION]
    for name, section in SECTIONS.items():
        command = f"    python examples/answers.py --only {name}"
        picture = f"![{section.__doc__}](figures/{name}.png)"
        parts.append(
            f"## {section.__doc__}\n\n{section(figures)}\n\n{picture}\n\nReproduce:\n\n{command}\n"
        )
    return "\n".join([*parts, measured()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(SECTIONS))
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    if options.only:
        (options.out / "figures").mkdir(parents=True, exist_ok=True)
        print(SECTIONS[options.only](options.out / "figures"))
        return
    (options.out / "answers.md").write_text(page(options.out))


if __name__ == "__main__":
    main()
