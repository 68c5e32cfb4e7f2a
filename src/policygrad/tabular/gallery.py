"""Small tasks. Each one shows one thing, with a policy that shows it.

Every function returns a `Task`: the MDP, and a softmax policy, at θ = 0 unless it says otherwise.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from policygrad.core import checks
from policygrad.tabular.mdp import FiniteMDP, Sparse
from policygrad.tabular.policy import SoftmaxPolicy


class Task(NamedTuple):
    """An MDP and a policy on it."""

    mdp: FiniteMDP
    policy: SoftmaxPolicy


def _one_logit(states: int) -> SoftmaxPolicy:
    """Two actions, one logit for all states: π(action 1) = σ(θ) everywhere."""
    features = np.zeros((states, 2, 1))
    features[:, 1] = 1.0
    return SoftmaxPolicy.of(np.zeros(1), features)


def two_armed_bandit(first: float = 1.0, second: float = 0.0) -> Task:
    """One choice between two fixed rewards.

    Shows that the value is not the optimal baseline. b* = (1−p) Q₁ + p Q₂ swaps the probabilities
    and leaves no variance at all. b = V leaves some.
    """
    transitions = np.zeros((2, 2, 2))
    transitions[:, :, 1] = 1.0
    mdp = FiniteMDP(transitions, [[first, second], [0, 0]], [1, 0], name="two-armed-bandit")
    return Task(mdp, SoftmaxPolicy.of(np.zeros((2, 2))))


def short_corridor() -> Task:
    """Three states that look the same; in the middle one left and right are exchanged; −1 a step.

    Shows aliasing: the best policy is stochastic, p(right) = 2 − √2, and V^π is a worse baseline
    than a constant. Sutton & Barto 2018, Example 13.1. Action 1 is right.
    """
    transitions = np.zeros((4, 2, 4))
    for state, action, successor in (
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 2),
        (1, 1, 0),
        (2, 0, 1),
        (2, 1, 3),
        (3, 0, 3),
        (3, 1, 3),
    ):
        transitions[state, action, successor] = 1.0
    rewards = np.array([[-1, -1], [-1, -1], [-1, -1], [0, 0]])
    mdp = FiniteMDP(transitions, rewards, [1, 0, 0, 0], name="short-corridor")
    return Task(mdp, _one_logit(4))


def chain(length: int = 5, slip: float = 0.1) -> Task:
    """Walk right to a reward of 1 at the far end. Every step costs 0.05 and may slip backwards.

    Shows how λ trades bias for variance, if the critic is good near the goal only.
    """
    checks.positive("length", length)
    checks.unit_interval("slip", slip)
    transitions = np.zeros((length + 1, 2, length + 1))
    rewards = np.zeros((length + 1, 2, length + 1))
    transitions[length, :, length] = 1.0
    for state in range(length):
        back, ahead = max(state - 1, 0), state + 1
        for action, sure in ((0, back), (1, ahead)):
            other = ahead if action == 0 else back
            transitions[state, action, sure] += 1 - slip
            transitions[state, action, other] += slip
        rewards[state] = -0.05
        rewards[state, :, length] += 1.0
    initial = np.eye(length + 1)[0]
    mdp = FiniteMDP(transitions, rewards, initial, horizon=4 * length, name="chain")
    return Task(mdp, SoftmaxPolicy.of(np.zeros((length + 1, 2))))


_MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left


def _grid(rows: int, columns: int, slip: float) -> tuple[np.ndarray, np.ndarray]:
    """Successors and probabilities `[S, 4, 3]`: the move, or with `slip` one to each side."""
    states = rows * columns
    successors = np.zeros((states, 4, 3), int)
    for state in range(states):
        row, column = divmod(state, columns)
        for action in range(4):
            for k, turn in enumerate((0, -1, 1)):
                down, right = _MOVES[(action + turn) % 4]
                r, c = row + down, column + right
                inside = 0 <= r < rows and 0 <= c < columns
                successors[state, action, k] = r * columns + c if inside else state
    probabilities = np.broadcast_to([1 - slip, slip / 2, slip / 2], successors.shape).copy()
    return successors, probabilities


def _end(successors: np.ndarray, probabilities: np.ndarray, state: int) -> None:
    """Make a state absorbing."""
    successors[state] = state
    probabilities[state] = np.array([1.0, 0.0, 0.0])


def gridworld(rows: int = 4, columns: int = 4, slip: float = 0.1, horizon: int = 20) -> Task:
    """From one corner of a grid to the other, −0.1 a step and 1 at the goal.

    Shows sparse transitions: three successors for each action, however large the grid.
    """
    checks.unit_interval("slip", slip)
    successors, probabilities = _grid(rows, columns, slip)
    goal = rows * columns - 1
    rewards = np.where(successors == goal, 0.9, -0.1)
    _end(successors, probabilities, goal)
    rewards[goal] = 0.0
    transitions = Sparse(successors, probabilities)
    initial = np.eye(rows * columns)[0]
    mdp = FiniteMDP(transitions, rewards, initial, horizon, name="gridworld")
    return Task(mdp, SoftmaxPolicy.of(np.zeros((rows * columns, 4))))


def cliff(rows: int = 3, columns: int = 6, horizon: int = 30) -> Task:
    """Along the edge of a cliff: −1 a step, −20 for a fall, which ends the episode.

    Shows a heavy tail: rare large losses dominate the variance. A baseline that depends on the
    state knows where the edge is, and removes much of it.
    """
    successors, probabilities = _grid(rows, columns, 0.0)
    start, goal = (rows - 1) * columns, rows * columns - 1
    rewards = np.full(successors.shape, -1.0)
    for state in range(start + 1, goal):
        rewards[successors == state] = -20.0
        _end(successors, probabilities, state)
    _end(successors, probabilities, goal)
    rewards[start + 1 :] = 0.0
    transitions = Sparse(successors, probabilities)
    initial = np.eye(rows * columns)[start]
    mdp = FiniteMDP(transitions, rewards, initial, horizon, name="cliff")
    return Task(mdp, SoftmaxPolicy.of(np.zeros((rows * columns, 4))))


def random_mdp(
    seed: int = 0,
    *,
    states: int = 4,
    actions: int = 2,
    horizon: int | None = 10,
    successors: int | None = None,
    reward_variance: float = 0.0,
) -> Task:
    """Dirichlet transitions, Gaussian rewards, and a Gaussian θ.

    Shows the typical case: there is no structure, so D/Var stays near 1. With `successors` the
    transitions are sparse, with that many successors for each state and action.
    """
    for name, value in (("states", states), ("actions", actions)):
        checks.positive(name, value)
    rng = np.random.default_rng(seed)
    if successors is None:
        transitions = rng.dirichlet(np.ones(states), size=(states, actions))
        shape = transitions.shape
    else:
        shape = states, actions, successors
        probabilities = rng.dirichlet(np.ones(successors), size=shape[:2])
        transitions = Sparse(rng.integers(states, size=shape), probabilities)
    rewards = rng.normal(size=shape)
    initial = rng.dirichlet(np.ones(states))
    name = f"random-{seed}"
    mdp = FiniteMDP(transitions, rewards, initial, horizon, reward_variance, name=name)
    return Task(mdp, SoftmaxPolicy.of(rng.normal(size=(states, actions))))


def discounted_counterexample() -> Task:
    """Two steps that share one logit: action 1 earns +1 first and −1.5 afterwards.

    Shows the cost of dropping γ^t. At γ = 0.5 the objective is J = p (1 − 0.75), best at p = 1. The
    usual direction is proportional to 1 − 1.5 and leads to p = 0, the worst policy. It is a smaller
    version of the example of Nota & Thomas 2020.
    """
    transitions = np.zeros((3, 2, 3))
    transitions[0, :, 1] = transitions[1, :, 2] = transitions[2, :, 2] = 1.0
    rewards = np.array([[0, 1], [0, -1.5], [0, 0]])
    mdp = FiniteMDP(transitions, rewards, [1, 0, 0], name="discounted-counterexample")
    return Task(mdp, _one_logit(3))


def sparse_credit(steps: int = 10) -> Task:
    """One shared logit, and a reward of 1 only if every one of `steps` actions was right.

    Shows approximation (i) failing. Whenever there is a reward all scores are equal, so that the
    cross-time covariance C, which (i) leaves out, is `steps` − 1 times as large as D.
    """
    checks.positive("steps", steps)
    end = steps  # reached by success, or by the first wrong action
    transitions = np.zeros((steps + 1, 2, steps + 1))
    rewards = np.zeros((steps + 1, 2))
    for state in range(steps):
        transitions[state, 0, end] = 1.0
        transitions[state, 1, state + 1] = 1.0
    transitions[end, :, end] = 1.0
    rewards[steps - 1, 1] = 1.0
    mdp = FiniteMDP(transitions, rewards, np.eye(steps + 1)[0], name="sparse-credit")
    policy = _one_logit(steps + 1)
    return Task(mdp, SoftmaxPolicy(np.array([2.0]), policy.features))


def token_task(words: Sequence[str] = ("a", "ab"), longest: int = 3, *, logit: float = 0.0) -> Task:
    """Spell the word that the prompt asks for: one token a step, and 1 for the word and an end.

    Shows what language-model training does with groups of answers to one prompt. The prompt is the
    state that the episode starts in, each as likely as the others. An answer is over with the
    token `end`, which is the last action, or with its `longest`-th token. The reward is 1 if the
    answer is the word, followed by `end`. Answers that went wrong earn nothing, however long they
    are, so that lengths differ where returns do not.

    Args:
        words: one a prompt; their letters, sorted, are the other actions.
        longest: the largest number of tokens, `end` included; longer than every word.
        logit: added to the right token's, in every state on the way to the word.
    """
    checks.whole("longest", longest)
    letters = sorted(set("".join(words)))
    actions, end = len(letters) + 1, len(letters)
    too_long = [word for word in words if len(word) >= longest]
    if not words or not all(words) or too_long:
        raise ValueError(
            f"words must be at least one, each of 1 to {longest - 1} letters, so that `end` fits "
            f"into longest={longest} tokens; got {list(words)}"
        )
    # of each prompt: the states on the way to the word, then those of t wrong tokens, t ≥ 1
    firsts = np.cumsum([0, *(len(word) + longest for word in words)])
    over = int(firsts[-1])
    successors = np.full((over + 1, actions, 1), over)
    rewards, theta = np.zeros((over + 1, actions)), np.zeros((over + 1, actions))
    for word, first in zip(words, firsts, strict=False):
        wrong = first + len(word)  # + t: astray after t tokens
        for t in range(len(word) + 1):
            right = end if t == len(word) else letters.index(word[t])
            if t + 1 < longest:
                successors[first + t, :end] = wrong + t + 1
            if right != end:
                successors[first + t, right] = first + t + 1
            theta[first + t, right] = logit
        rewards[first + len(word), end] = 1.0
        for t in range(1, longest - 1):
            successors[wrong + t, :end] = wrong + t + 1
    initial = np.zeros(over + 1)
    initial[firsts[:-1]] = 1 / len(words)
    transitions = Sparse(successors, np.ones(successors.shape))
    mdp = FiniteMDP(transitions, rewards, initial, longest, name="token-task")
    return Task(mdp, SoftmaxPolicy.of(theta))


TASKS: dict[str, Callable[[], Task]] = {
    "two-armed-bandit": two_armed_bandit,
    "short-corridor": short_corridor,
    "chain": chain,
    "gridworld": gridworld,
    "cliff": cliff,
    "random": random_mdp,
    "discounted-counterexample": discounted_counterexample,
    "sparse-credit": sparse_credit,
    "token-task": token_task,
}

# the γ at which a task shows its point, if that is not 1
DISCOUNTS = {"discounted-counterexample": 0.5}
