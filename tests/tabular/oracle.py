"""Moments by brute force: naive double sums over every trajectory, in NumPy alone."""

import itertools

import numpy as np

from policygrad import baselines, estimators
from policygrad.gradients.forms import LambdaReturn, NStep, ResetAtRewards, TotalReturn
from policygrad.gradients.weights import Estimator
from policygrad.tabular import AllAction, FiniteMDP, SoftmaxPolicy, Sparse, all_action
from tests.tabular.forms import RenormalisedLambda


def random_mdp(seed, states=3, actions=2, horizon=3, *, absorbing=True, noisy=True, sparse=False):
    """A random MDP; the last state is absorbing, and some transitions have a random reward."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(states), size=(states, actions))
    r = rng.normal(size=(states, actions, states))
    variance = rng.uniform(size=r.shape) * (rng.uniform(size=r.shape) < 0.3) if noisy else 0.0 * r
    if absorbing:
        p[-1], r[-1], variance[-1] = np.eye(states)[-1], 0.0, 0.0
    initial = rng.dirichlet(np.ones(states))
    transitions = p
    if sparse:  # slots in a shuffled order
        order = np.argsort(rng.uniform(size=p.shape), axis=-1)
        transitions = Sparse(order, np.take_along_axis(p, order, -1))
        r, variance = (np.take_along_axis(x, order, -1) for x in (r, variance))
    return FiniteMDP(transitions, r, initial, horizon, variance)


def random_policy(seed, mdp, *, features=None, aliased=False):
    rng = np.random.default_rng([seed, 1])
    if features is None:
        return SoftmaxPolicy.of(rng.normal(size=(mdp.states, mdp.actions)))
    phi = rng.normal(size=(mdp.states, mdp.actions, features))
    if aliased:
        phi[1] = phi[0]
    return SoftmaxPolicy.of(rng.normal(size=features), phi)


def random_tables(seed, mdp, *, timed=True):
    """Arbitrary b and V."""
    rng = np.random.default_rng([seed, 2])
    shape = (mdp.horizon, mdp.states) if timed and mdp.horizon else (mdp.states,)
    return rng.normal(size=shape), rng.normal(size=shape)


def every_estimator(b, v, gamma, lam, *, constant=0.7):
    """(name, estimator): every form, γ^t kept and dropped, with and without the baseline."""
    table, critic = baselines.table(b), baselines.table(v)
    yield "total_return", estimators.total_return(discount=gamma)
    mean = baselines.constant(constant)
    yield "total_return, constant", estimators.total_return(discount=gamma, baseline=mean)
    yield "total_return, table", estimators.total_return(discount=gamma, baseline=table)
    yield "reward_indexed", estimators.reward_indexed(discount=gamma, baseline=table)
    for kept in (False, True):
        common = {"discount": gamma, "discounted_states": kept}
        both = {**common, "critic": critic}
        yield f"reward_to_go {kept}", estimators.reward_to_go(**common)
        yield f"reward_to_go, b {kept}", estimators.reward_to_go(baseline=table, **common)
        yield f"reward_to_go, V {kept}", estimators.reward_to_go(**both)
        yield f"n_step 2 {kept}", estimators.n_step(n=2, **both)
        yield f"n_step 2, b {kept}", estimators.n_step(n=2, baseline=table, **both)
        yield f"td {kept}", estimators.td(**both)
        yield f"gae {kept}", estimators.gae(gae_lambda=lam, **both)
        yield f"gae, b {kept}", estimators.gae(gae_lambda=lam, baseline=table, **both)
        yield f"all_action {kept}", all_action(**common)
        yield f"all_action, V {kept}", all_action(**both)


def every_resetting_estimator(b, v, gamma, lam):
    """(name, estimator): every form with one return a step, with a reset at every reward."""
    table, critic = baselines.table(b), baselines.table(v)
    for kept in (False, True):
        common = {"discount": gamma, "discounted_states": kept, "resets_at_rewards": True}
        both = {**common, "critic": critic}
        yield f"reward_to_go {kept}", estimators.reward_to_go(**common)
        yield f"reward_to_go, b {kept}", estimators.reward_to_go(baseline=table, **common)
        yield f"reward_to_go, V {kept}", estimators.reward_to_go(**both)
        yield f"n_step 2 {kept}", estimators.n_step(n=2, **both)
        yield f"n_step 3, b {kept}", estimators.n_step(n=3, baseline=table, **both)
        yield f"td {kept}", estimators.td(**both)
        yield f"gae {kept}", estimators.gae(gae_lambda=lam, **both)
        yield f"gae, b {kept}", estimators.gae(gae_lambda=lam, baseline=table, **both)


def is_total(estimator):
    """Whether the return is one number an episode."""
    return isinstance(estimator, Estimator) and isinstance(estimator.form, TotalReturn)


def is_monte_carlo(estimator):
    """Whether its returns hold rewards alone."""
    if isinstance(estimator, AllAction):
        return False
    return isinstance(estimator.form, TotalReturn) or (
        isinstance(estimator.form, LambdaReturn) and estimator.form.gae_lambda == 1
    )


def scores(policy, mdp):
    """z [S, A, d], from the formula of the softmax."""
    phi = np.eye(mdp.states * mdp.actions).reshape(mdp.states, mdp.actions, -1)
    if policy.features is not None:
        phi = policy.features.value
    theta = np.ravel(policy.theta)
    logits = phi @ theta
    pi = np.exp(logits - logits.max(1, keepdims=True))
    pi = pi / pi.sum(1, keepdims=True)
    return pi, phi - np.einsum("sa,sad->sd", pi, phi)[:, None]


def _timed(table, horizon):
    table = np.asarray(table)
    return np.broadcast_to(table, (horizon, *table.shape)) if table.ndim == 1 else table


def _table(baseline, mdp):
    if baseline is None or baseline == baselines.none():
        return np.zeros((mdp.horizon, mdp.states))
    given = np.asarray(baseline.given)
    return (
        np.full((mdp.horizon, mdp.states), given) if given.ndim == 0 else _timed(given, mdp.horizon)
    )


def n_step_return(r, v, gamma, t, n):
    """n rewards from step t on and then V, or as many as there are: a sum, path by path."""
    last = min(t + n, r.shape[1])
    rewards = sum(gamma ** (k - t) * r[:, k] for k in range(t, last))
    return rewards + gamma ** (last - t) * v[:, last]


def naive_return(form, r, v, gamma, t):
    """`[N]`, the return that the weight of step t starts from, by its definition as a sum.

    Args:
        form: a return form, of which the parameters are read and nothing else.
        r: `[N, T]`.
        v: `[N, T + 1]`, V of each step's state; 0 at the horizon.
        gamma: γ.
        t: the step.
    """
    rest = r.shape[1] - t
    match form:
        case TotalReturn():
            return sum(gamma**k * r[:, k] for k in range(r.shape[1]))
        case ResetAtRewards(inner):  # what comes after the first reward from t on does not count
            paid = np.cumsum(r[:, t:] != 0, axis=1)
            before = np.concatenate([0 * paid[:, :1], paid], axis=1) == 0
            r, v = r.copy(), v.copy()
            r[:, t:] *= before[:, :-1]
            v[:, t:] *= before
            return naive_return(inner, r, v, gamma, t)
        case NStep(n):
            return n_step_return(r, v, gamma, t, n)
        case LambdaReturn(lam):  # (1 - λ) λ^(n-1) of each n; what is left over for the longest
            shares = [(1 - lam) * lam ** (n - 1) for n in range(1, rest)] + [lam ** (rest - 1)]
        case RenormalisedLambda(lam):  # λ^(n-1) of each n, over their sum
            shares = np.array([lam ** (n - 1) for n in range(1, rest + 1)])
            shares = shares / shares.sum()
    return sum(w * n_step_return(r, v, gamma, t, n) for n, w in enumerate(shares, 1))


def returns_and_values(paths, mdp, estimator):
    """Return [N, T] that Ψ starts from, and V at each step's state: by double sums."""
    steps, gamma = mdp.horizon, estimator.discount
    v_table = _table(estimator.critic, mdp) * ~mdp.absorbing
    s = paths.states
    v = np.stack([v_table[t][s[:, t]] for t in range(steps)] + [np.zeros(len(s))], axis=1)
    g = [naive_return(estimator.form, paths.rewards, v, gamma, t) for t in range(steps)]
    return np.stack(g, axis=1), v[:, :steps]


def terms(paths, mdp, policy, estimator, batch_baseline=None):
    """g [N, T, d]: each trajectory's terms w_t z_t (G_t − b_t), and (G_t − b_t) [N, T] and z."""
    pi, z_table = scores(policy, mdp)
    steps, gamma = mdp.horizon, estimator.discount
    s, a = paths.states[:, :steps], paths.actions
    z = z_table[s, a] * paths.valid[..., None]
    kept = estimator.discounted_states and not is_total(estimator)
    w = gamma ** np.arange(steps) if kept else np.ones(steps)
    if isinstance(estimator, AllAction):
        q = action_values(mdp, pi, estimator)
        f = np.einsum("sa,sad,tsa->tsd", pi, z_table, q)
        g = np.stack([w[t] * f[t][s[:, t]] for t in range(steps)], axis=1)
        return g * paths.valid[..., None], None, z, w
    returns, v = returns_and_values(paths, mdp, estimator)
    b = v
    if batch_baseline is not None:
        b = batch_baseline
    elif estimator.baseline is not None:
        b_table = _table(estimator.baseline, mdp)
        b = np.stack([b_table[t][s[:, t]] for t in range(steps)], axis=1)
    weights = (returns - b) * paths.valid
    return w[:, None] * z * weights[..., None], weights, z, w


def action_values(mdp, pi, estimator):
    """Q [T, S, A] by backward induction; one reward and the critic where there is one."""
    p = np.zeros((mdp.states, mdp.actions, mdp.states))
    weights, successors = np.asarray(mdp.edges.weights), mdp.successors
    for s, a, k in itertools.product(*map(range, weights.shape)):
        p[s, a, successors[s, a, k]] += weights[s, a, k]
    r = (weights * np.asarray(mdp.edges.rewards)).sum(-1)
    critic = _table(estimator.critic, mdp) * ~mdp.absorbing
    q, after = np.zeros((mdp.horizon, mdp.states, mdp.actions)), np.zeros(mdp.states)
    for t in reversed(range(mdp.horizon)):
        q[t] = r + estimator.discount * p @ after
        after = (pi * q[t]).sum(1) if estimator.critic is None else critic[t]
    return q


def brute_force(paths, mdp, policy, estimator):
    """Every number of `Moments`, by sums over all trajectories."""
    p = paths.probabilities
    g, weights, z, w = terms(paths, mdp, policy, estimator)
    whole = g.sum(axis=1)
    mean = p @ whole
    centred = whole - mean
    covariance = (p[:, None] * centred).T @ centred
    diagonal = p @ (g**2).sum((1, 2))
    pairs = itertools.combinations(range(mdp.horizon), 2)
    cross = sum(2 * p @ (g[:, t] * g[:, k]).sum(1) for t, k in pairs)
    factored = np.nan
    if weights is not None:
        per_step = (p @ (z**2).sum(2)) * (p @ weights**2) * w**2
        factored = per_step.sum()
    return {
        "mean": mean,
        "covariance": covariance,
        "variance": np.trace(covariance),
        "diagonal": diagonal,
        "cross": cross,
        "squared_mean": mean @ mean,
        "approximation_i": diagonal,
        "approximation_ii": factored,
    }


def relative_error(got, want):
    """Largest difference in units of the largest entry (of 1e-3 where all are smaller)."""
    got, want = np.asarray(got, float), np.asarray(want, float)
    if np.isnan(want).all():
        return 0.0 if np.isnan(got).all() else np.inf
    return float(np.max(np.abs(got - want)) / max(1e-3, np.max(np.abs(want))))


def batches(paths, mdp, policy, estimator, k):
    """Mean and k × covariance of the leave-one-out gradient over every batch of k trajectories."""
    returns, _ = returns_and_values(paths, mdp, estimator)
    if not is_total(estimator):
        returns = returns * paths.valid
    n = len(paths.probabilities)
    index = np.array(list(itertools.product(range(n), repeat=k)))
    p = paths.probabilities[index].prod(axis=1)
    gradient = 0.0
    for i in range(k):
        others = [j for j in range(k) if j != i]
        b = np.mean([returns[index[:, j]] for j in others], axis=0)
        own = index[:, i]
        chosen = type(paths)(
            p,
            paths.states[own],
            paths.actions[own],
            paths.rewards[own],
            paths.valid[own],
            paths.log_probs[own],
        )
        gradient = gradient + terms(chosen, mdp, policy, estimator, b)[0].sum(axis=1) / k
    mean = p @ gradient
    centred = gradient - mean
    return mean, k * (p[:, None] * centred).T @ centred
