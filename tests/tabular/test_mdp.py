"""Bad input is refused with the offending value, and the gallery shows what it says it shows."""

import gymnasium
import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.core.plain import to_json
from policygrad.tabular import (
    FiniteMDP,
    FunctionPolicy,
    SoftmaxPolicy,
    Sparse,
    as_environment,
    enumerate_trajectories,
    from_gymnasium,
    gallery,
    moments,
    solve,
)
from policygrad.tabular.exact_estimators import ExactEstimators
from policygrad.tabular.results import as_text, results_of
from tests.tabular.oracle import random_mdp, random_policy, relative_error

P = np.array([[[0.5, 0.5]], [[0.0, 1.0]]])


def changed(index, value):
    p = P.copy()
    p[index] = value
    return p


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((changed((0, 0, 0), 0.4), [[1], [0]], [1, 0]), r"transitions\[0, 0\].*sum to 1.*0\.9"),
        ((changed((0, 0), [1.5, -0.5]), [[1], [0]], [1, 0]), r"\[0, 0, 1\].*negative.*-0\.5"),
        ((changed((0, 0, 0), np.nan), [[1], [0]], [1, 0]), r"transitions\[0, 0, 0\]=nan"),
        ((P, [[np.inf], [0]], [1, 0]), r"rewards\[0, 0\]=inf"),
        ((P, [[1, 2], [0, 0]], [1, 0]), r"rewards must have shape \(2, 1\).*got \(2, 2\)"),
        ((P[:, :, :1], [[1], [0]], [1, 0]), r"\[S, A, S\], got \(2, 1, 1\)"),
        ((P, [[1], [0]], [1, 0, 0]), r"initial must have shape \(2,\)"),
        ((P, [[1], [0]], [0.7, 0.7]), r"initial must sum to 1, got 1\.4"),
        ((P, [[1], [0]], [1, 0], 0), "got horizon=0"),
        ((P, [[1], [0]], [1, 0], 2.5), r"got horizon=2\.5"),
        ((P, [[1], [0]], [1, 0], 2, -1.0), r"reward_variance.*-1\.0"),
        ((Sparse(np.array([[[0, 2]], [[0, 1]]]), P), [[1], [0]], [1, 0]), r"0…1, got 2"),
        ((Sparse(np.array([[[0]], [[0]]]), P), [[1], [0]], [1, 0]), "one shape"),
    ],
)
def test_bad_mdps_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FiniteMDP(*arguments)


def test_bad_questions_are_refused():
    endless = random_mdp(0, horizon=None, absorbing=False)
    mdp = random_mdp(1)
    policy = random_policy(0, mdp)
    with pytest.raises(ValueError, match="discount=1 needs absorption, and from state 0"):
        solve(endless, policy, discount=1.0)
    with pytest.raises(ValueError, match=r"discount=0\.9+ is too close to 1"):
        solve(endless, policy, discount=1 - 1e-13)
    kept = estimators.reward_to_go(discount=1 - 1e-13, discounted_states=True)
    with pytest.raises(ValueError, match=r"discount=0\.9+ is too close to 1"):
        moments(endless, policy, kept)
    with pytest.raises(ValueError, match=r"discount=1\.5"):
        solve(mdp, policy, discount=1.5)
    with pytest.raises(ValueError, match="needs a horizon"):
        enumerate_trajectories(endless, policy)
    with pytest.raises(ValueError, match="more than 100 trajectories"):
        enumerate_trajectories(mdp, policy, limit=100)
    with pytest.raises(ValueError, match="normalise_advantages"):
        moments(mdp, policy, estimators.reward_to_go(normalise_advantages=True))
    with pytest.raises(ValueError, match="has to be fitted"):
        moments(mdp, policy, estimators.gae())
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        moments(mdp, policy, estimators.reward_to_go(baseline=baselines.table(np.zeros(4))))
    loo = estimators.reward_to_go(baseline=baselines.leave_one_out())
    with pytest.raises(ValueError, match="at least 2 episodes a batch, got 1"):
        moments(mdp, policy, loo, episodes=1)
    with pytest.raises(ValueError, match="theta has 4 entries"):
        solve(mdp, SoftmaxPolicy.of(np.zeros((2, 2))), discount=1.0)
    with pytest.raises(ValueError, match="nan"):
        SoftmaxPolicy.of([np.nan])
    with pytest.raises(ValueError, match="no distribution"):
        solve(mdp, FunctionPolicy(np.zeros(1), lambda t: np.full((3, 2), 0.6)), discount=1.0)
    with pytest.raises(ValueError, match="state 2, which is absorbing"):
        as_environment(mdp)
    with pytest.raises(ValueError, match="carries no model"):
        from_gymnasium(gymnasium.make("CartPole-v1"))
    for bad in ([[[1.0]]], [np.nan]):
        with pytest.raises(ValueError, match="values must"):
            baselines.table(bad)


def test_a_discount_close_to_1_needs_an_end_that_comes_soon():
    ends = random_mdp(0, horizon=None)
    policy = random_policy(0, ends)
    close, at_1 = (solve(ends, policy, discount=x) for x in (1 - 1e-13, 1.0))
    np.testing.assert_allclose(close.gradient, at_1.gradient, rtol=1e-9)
    endless = random_mdp(0, horizon=None, absorbing=False)
    assert np.isfinite(solve(endless, policy, discount=1 - 1e-8).objective)


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1", "Taxi"])
def test_gymnasium_models_are_read_as_they_are(name):
    """Q of the uniform policy, by sweeping over the environment's own lists."""
    if name == "Taxi":
        name = max(n for n in gymnasium.registry if n.startswith("Taxi-"))
    env = gymnasium.make(name)
    mdp = from_gymnasium(env)
    model = env.unwrapped.P
    value = np.zeros(len(model))
    for _ in range(200):
        value = np.array(
            [
                np.mean(
                    [
                        sum(p * (r + 0.9 * value[to] * (not end)) for p, to, r, end in row)
                        for row in model[s].values()
                    ]
                )
                for s in model
            ]
        )
    pi = SoftmaxPolicy.of(np.zeros((mdp.states, mdp.actions)))
    exact = solve(mdp, pi, discount=0.9)
    expected = env.unwrapped.initial_state_distrib @ value
    assert exact.objective == pytest.approx(expected, rel=1e-7)


def test_dense_and_sparse_agree():
    dense = random_mdp(3)
    slots = np.broadcast_to(np.arange(3), dense.transitions.shape)
    sparse = FiniteMDP(
        Sparse(slots, dense.transitions), dense.rewards, dense.initial, 3, dense.reward_variance
    )
    policy = random_policy(4, dense)
    one, other = (
        moments(m, policy, estimators.total_return(), covariance=True) for m in (dense, sparse)
    )
    assert relative_error(one.covariance, other.covariance) <= 1e-12


def test_sums_over_more_slots_than_a_block_are_complete():
    mdp, policy = gallery.random_mdp(0, states=6, actions=3, successors=7, horizon=3)
    p = np.zeros((6, 3, 6))
    weights, to = mdp.edges.weights, mdp.successors
    np.add.at(p, (*np.indices(to.shape)[:2], to), weights)
    r = (weights * mdp.edges.rewards).sum(-1)
    mean_reward = FiniteMDP(p, r, mdp.initial, 3)
    one, other = (moments(m, policy, estimators.reward_to_go()).mean for m in (mdp, mean_reward))
    assert relative_error(one, other) <= 1e-12


QUICK_TASKS = "short-corridor", "gridworld"
EVERY_TASK = [
    name if name in QUICK_TASKS else pytest.param(name, marks=pytest.mark.slow)
    for name in gallery.TASKS
]


@pytest.mark.parametrize(
    ("names", "subtracted", "wrong"),
    [
        (["reward-to-go", "gea"], ["none"], "got estimator='gea'"),
        (["reward-to-go"], ["none", "valeu"], "got baseline='valeu'"),
    ],
)
def test_a_misspelled_name_is_refused_beside_right_ones(names, subtracted, wrong):
    exact = ExactEstimators(*gallery.short_corridor(), 1.0)
    with pytest.raises(ValueError, match=wrong):
        exact.chosen(names, subtracted)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_TASK)
def test_every_task_of_the_gallery_has_a_report(name):
    mdp, policy = gallery.TASKS[name]()
    table = results_of(mdp, policy, ExactEstimators(mdp, policy, 0.9).usual())
    assert len(table) == 14
    best = min(r.variance for r in table if r.name.startswith("reward to go") and r.bias < 1e-9)
    chosen = next(r for r in table if r.name == "reward to go, optimal b")
    assert chosen.variance == pytest.approx(best)
    for r in table:
        assert r.variance == pytest.approx(r.diagonal + r.cross + r.between - r.squared_mean)
        assert all(x is None or isinstance(x, (str, float)) for x in to_json(r).values())
    assert len(as_text(table).splitlines()) == 15


def test_the_sparse_credit_task_hides_most_of_its_variance_from_approximation_i():
    exact = moments(*gallery.sparse_credit(10), estimators.reward_to_go())
    assert exact.cross == pytest.approx(9 * exact.diagonal)
    assert exact.variance > 5 * exact.approximation_i


def test_equal_shapes_compile_once():
    from policygrad.tabular import to_go

    to_go.finite.clear_cache()
    for seed, gamma in ((0, 0.9), (1, 0.5), (2, 1.0)):
        mdp = random_mdp(seed)
        for lam in (0.0, 0.5):
            critic = baselines.table(np.full(3, float(seed)))
            moments(
                mdp,
                random_policy(seed, mdp),
                estimators.gae(discount=gamma, gae_lambda=lam, critic=critic),
            )
    assert to_go.finite._cache_size() == 1
