"""An answer of docs/answers.md, on states that are rarely visited; `answers.py` runs it."""

# ruff: noqa: E501 (the prose of the page is as wide as it reads well)

from pathlib import Path

import gymnasium
import numpy as np
from answers_on_groups import table
from jaxtyping import Float

from policygrad.figures.style import new_figure
from policygrad.tabular import FiniteMDP, FixedPolicy, from_gymnasium, solve

TASK, DISCOUNT = "CliffWalking-v1", 0.99
STEPS = 2048  # of a batch
KL = 0.01  # of every update
UPDATES = 16
SHORTEST = 13  # steps from the start to the goal
BEFORE_GOAL = 35  # the state above the goal
NO_CHANCE = 1e-12  # what float64 leaves of 1 less a chance of nearly 1
SHOWN = (0, 4, 8, 12, 16)
DAMPINGS = {"plain": None, "natural, damping 0.1": 0.1, "natural, damping 0.001": 0.001}


def policy_of(logits: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A"]:
    """The softmax of every row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def visits(batch: FiniteMDP, pi: Float[np.ndarray, "S A"]) -> tuple[Float[np.ndarray, " S"], float]:
    """The share of a batch's steps in each state, and the chance that an episode ends in it."""
    occupancy = solve(batch, FixedPolicy(pi), discount=1.0).occupancy * ~batch.absorbing
    return occupancy.sum(axis=0) / occupancy.sum(), 1 - occupancy[-1].sum()


def direction(
    share: Float[np.ndarray, " S"],
    pi: Float[np.ndarray, "S A"],
    advantages: Float[np.ndarray, "S A"],
    damping: float | None,
) -> Float[np.ndarray, "S A"]:
    """g, or x = (F + damping)⁻¹ g, with F = Σ_s d(s) (diag π − π πᵀ), a block a state."""
    gradient = share[:, None] * pi * advantages
    if damping is None:
        return gradient
    blocks = share[:, None, None] * (
        np.einsum("sa,ab->sab", pi, np.eye(pi.shape[1])) - pi[:, :, None] * pi[:, None]
    )
    return np.linalg.solve(blocks + damping * np.eye(pi.shape[1]), gradient[..., None])[..., 0]


def step(
    logits: Float[np.ndarray, "S A"],
    along: Float[np.ndarray, "S A"],
    share: Float[np.ndarray, " S"],
) -> Float[np.ndarray, "S A"]:
    """The logits after a step whose mean KL is that of an update, found by bisection."""
    old = policy_of(logits)
    along = along / np.abs(along).max()
    low, high = 0.0, 1e3
    for _ in range(60):
        size = (low + high) / 2
        new = policy_of(logits + size * along)
        logs = [np.log(np.maximum(p, 1e-300)) for p in (old, new)]
        kl = share @ np.sum(old * (logs[0] - logs[1]), axis=1)
        low, high = (size, high) if kl < KL else (low, size)
    return logits + low * along


def path(damping: float | None) -> Float[np.ndarray, "n 2"]:
    """J and the chance that an episode ends within a batch, before each update."""
    env = gymnasium.make(TASK)
    mdp, batch = from_gymnasium(env), from_gymnasium(env, horizon=STEPS + 1)
    logits, found = np.zeros((mdp.states, mdp.actions)), []
    for _ in range(UPDATES + 1):
        pi = policy_of(logits)
        solution = solve(mdp, FixedPolicy(pi), discount=DISCOUNT)
        share, ends = visits(batch, pi)
        found.append((solution.objective, max(ends, NO_CHANCE)))
        logits = step(logits, direction(share, pi, solution.advantages, damping), share)
    return np.array(found)


def shown(objective: float, chance: float) -> tuple[float, str]:
    """A pair of numbers of a path, as the table tells them."""
    return float(objective), f"{chance:.2g}" if chance > NO_CHANCE else "0"


def rare_states(figures: Path) -> str:
    """Why does a policy gradient without any noise lose its way on CliffWalking?"""
    paths = {name: path(damping) for name, damping in DAMPINGS.items()}
    figure, (left, right) = new_figure(2)
    for name, found in paths.items():
        left.semilogy(found[:, 1], label=name)
        right.plot(found[:, 0], label=name)
    left.set(xlabel="update", ylabel=f"chance of the goal in {STEPS:,} steps")
    right.set(xlabel="update", ylabel="J", ylim=(-300, 0))
    left.legend()
    figure.savefig(figures / "rare_states.png", dpi=120)

    env = gymnasium.make(TASK)
    uniform = policy_of(np.zeros((48, 4)))
    share, chance = visits(from_gymnasium(env, horizon=STEPS + 1), uniform)
    best = -(1 - DISCOUNT**SHORTEST) / (1 - DISCOUNT)
    rows = [[n, *(x for p in paths.values() for x in shown(*p[n]))] for n in SHOWN]
    header = ["updates", *(f"{name}: {what}" for name in paths for what in ("J", "chance"))]
    return f"""Because it counts a state as often as the state is visited, and the state beside the goal is rarely visited. An
episode of {TASK} begins beside a cliff. A fall costs 100 and leads back to the start, any other step costs 1,
and only the goal ends the episode. A uniform policy reaches it in {STEPS:,} steps with the chance {chance:.2f}, and is
in the state before it in {share[BEFORE_GOAL]:.2g} of its steps. Here nothing is sampled: a softmax in a table follows the exact
direction for γ = {DISCOUNT}, in steps whose KL is {KL}. J = −100 is to walk on for ever, and {best:.2f} the best there is.
The chance is that of the goal in {STEPS:,} steps:

{table(header, rows)}

The plain gradient learns within ten updates to keep away from the cliff, and with the cliff it leaves the way along it.
After 16 the chance of the goal is below 10⁻¹², where float64 itself hardly tells the actions apart. **It is not noise
that loses the goal.** In a run, noise comes on top: no batch holds a sample of the goal any more, all returns are
equal, and normalised advantages are the error of the critic at unit size.

The natural gradient divides by the same visits. It changes the policy in a rare state as much as in a common one, and
finds the goal at once. The damping that is added to F takes this away wherever it exceeds the share of the visits: with
the default of 0.1 the natural gradient is as lost as the plain one for twelve updates. So on tasks with a rare goal
train with `--algorithm natural --damping 0.001`; what it brings stands in [lost runs](notes/lost-runs.md)."""
