"""The arithmetic of the benchmark programs that measure time and memory; nothing is timed here."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_in_turns_goes_back_and_forth():
    from common import in_turns, median_ratio

    order = []

    def call(name):
        return lambda: order.append(name) or float(len(order))

    found = in_turns({"a": call("a"), "b": call("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}
    assert median_ratio(found["a"], found["b"]) == 5 / 6


def test_child_json_takes_the_object_that_ends_the_output():
    import sys

    from children import CellFailed
    from common import child_json

    program = "import json; print('noise {'); print(json.dumps({'a': {'b': 1}}, indent=1))"
    assert child_json([sys.executable, "-c", program]) == {"a": {"b": 1}}
    assert child_json([sys.executable, "-c", "print('{\"a\": 2}')"]) == {"a": 2}
    with pytest.raises(CellFailed, match="no luck"):
        child_json([sys.executable, "-c", "raise SystemExit('no luck')"])


def test_clock_leaves_out_what_compiles(monkeypatch):
    import clock

    times = iter([10.0, 20.0, 21.0, 22.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(times))
    measured = clock.Clock(skip=2)
    for number in range(1, 5):
        measured({"env_steps": 100 * number})
    assert measured.steps_per_second == 100.0


def test_ratios_are_taken_within_a_round():
    from throughput import ratios_of

    rates = {"EnvPool alone": [10.0, 40.0, 10.0], "training on EnvPool": [5.0, 30.0, 8.0]}
    assert ratios_of(rates) == {"training on EnvPool / EnvPool alone": 0.75}
    peers = {"SB3 PPO, threads: 1": [1.0, 5.0, 2.0], "SB3 PPO, threads: 2": [0.5, 6.0, 1.0]}
    assert ratios_of(rates | peers)["training on EnvPool / SB3 PPO"] == 5.0


def test_phases_add_up():
    from wall_time import phases

    timings = {
        "save": 1.0,
        "first_collect": 3.0,
        "collect": 9.0,
        "first_update": 5.5,
        "update": 4.5,
        "first_compile": 2.0,
        "compile": 0.0,
        "first_wait_for_refit": 1.5,
        "wait_for_refit": 4.5,
    }
    found = phases(timings, updates=10)
    expected = {"compile": 10.0, "save": 1.0, "collect": 10.0, "update": 5.0, "wait_for_refit": 5.0}
    assert found == expected
    assert sum(found.values()) == sum(timings.values())


def test_memory_reads_metrics_and_slope(tmp_path):
    import memory

    path = tmp_path / "metrics.jsonl"
    assert memory.last_steps(path) == 0
    path.write_text('{"env_steps": 100}\n{"env_steps": 200}\n{"env_st')  # torn in mid-write
    assert memory.last_steps(path) == 200
    steps = np.linspace(0, 2e6, 21)
    growing = np.stack([steps, steps, np.where(steps < 1e6, 500.0, 400 + steps / 1e5)], 1)
    assert memory.slope(growing) == pytest.approx(10.0)


def test_differences_of_policies():
    from seeds import differences

    ours = {"w": np.array([3.0, 4.0]), "b": np.array([0.0, 0.001])}
    assert differences(ours, ours) == (0.0, 0.0)
    theirs = ours | {"b": np.array([0.0, 0.0011])}
    length, entry = differences(ours, theirs)
    assert length == pytest.approx(1e-4 / 5, rel=1e-3)
    assert entry == pytest.approx(0.1)


def test_products_are_those_of_a_gradient():
    """The ceiling's loop makes the products of a linear network's backpropagation, all of them."""
    from compiled_speed import backward, forward

    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(4, 8), (8, 8), (8, 2)]
    weights = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=False)]
    x = jax.random.normal(keys[3], (16, 4))
    wanted = jax.grad(lambda w: 0.5 * (forward(w, x)[-1] ** 2).sum())(weights)
    for ours, theirs in zip(backward(weights, forward(weights, x)), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_flops_are_those_that_the_compiler_counts():
    from compiled_speed import backward, flops_per_step, forward

    rows, total = 128, 0.0
    for out in (2, 1):
        weights = [np.ones(shape, np.float32) for shape in ((4, 64), (64, 64), (64, out))]
        for call in (
            lambda w, x: forward(w, x)[-1],
            lambda w, x: backward(w, forward(w, x)),
        ):
            compiled = jax.jit(call).lower(weights, np.ones((rows, 4), np.float32)).compile()
            total += compiled.cost_analysis()["flops"]
    assert flops_per_step() == pytest.approx(total / rows, rel=2e-3)  # one column: no sum


def test_ceiling_counts_every_chunk_alike():
    from compiled_speed import products

    keys = jax.random.split(jax.random.key(0), 7)
    shapes = [(4, 8), (8, 8), (8, 2)], [(4, 8), (8, 8), (8, 1)]
    networks = tuple(
        [jax.random.normal(keys[3 * i + j], s) for j, s in enumerate(shape)]
        for i, shape in enumerate(shapes)
    )
    x = jax.random.normal(keys[6], (32, 4))
    results = [
        products(networks, x, num_envs=8, steps=4, chunk=chunk, batches=2) for chunk in (8, 32)
    ]
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_ablations_change_one_setting_at_a_time(tmp_path, capsys):
    from argparse import Namespace

    import ablations

    from policygrad.training.config import TrainConfig

    made = ablations.changes("defaults", "HalfCheetah-v5")
    assert made[0] == {}
    for change in made[1:]:
        ((name, value),) = change.items()
        default = 2048 if name == "batch_steps" else getattr(TrainConfig(), name)
        assert value != default, f"{change} is the default"
    discrete = ablations.changes("defaults", "gymnax/CartPole-v1")
    assert not any("log_std" in change or "tanh_gaussian" in change for change in discrete)
    line = {
        "task": "t", "algorithm": "vanilla", "change": {"gae_lambda": 1.0}, "steps": 10,
        "seeds": [0, 1, 2], "stochastic": [1.0, 2.0, 3.0], "over_run": [1.0, 1.0, 1.0],
    }  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(line) + "\n")
    ablations.table(Namespace(file=path))
    assert "| gae_lambda 1.0 | 2.0 | [1.0, 3.0] | 1.0 | [1.0, 1.0] |" in capsys.readouterr().out


def test_every_study_is_one_of_settings_that_exist():
    import ablations

    from policygrad.training.config import TrainConfig

    for study in ablations.STUDIES:
        made = ablations.changes(study, "HalfCheetah-v5")
        assert len({TrainConfig(**change) for change in made}) == len(made)


def test_exact_variances_with_a_mean_return_and_with_the_value():
    """On the short corridor V is the worse baseline: Var 295 (docs/laboratory.md)."""
    from baselines import exact_variances

    found = exact_variances("short-corridor")
    assert found["none"] == pytest.approx(733)
    assert found["constant"] == pytest.approx(288.0 + 2 / 3)  # at b = −31/3
    assert found["value-network"] == pytest.approx(295)


def test_advice_is_the_least_error_and_the_best_direction():
    from advice import DEFAULT, Arms

    errors = {"a": 3.0, "b": 1.0, DEFAULT: 2.0}
    arms = Arms.of(errors, {"a": 0.9, "b": float("nan"), DEFAULT: 0.5})
    assert arms == Arms(recommended="b", direction="a", default=DEFAULT, worst="a")
    unknown = Arms.of(errors, dict.fromkeys(errors, float("nan")))
    assert unknown.direction == DEFAULT


def test_advice_weighs_the_training_return_by_steps():
    from summary import mean_over_run

    rows = [(100, None), (200, 1.0), (500, 5.0)]  # nothing ended in the first 100 steps
    metrics = [{"env_steps": steps, "return_mean": mean} for steps, mean in rows]
    assert mean_over_run(metrics) == pytest.approx((200 * 1.0 + 300 * 5.0) / 500)


def test_advice_tables_every_estimator_once(tmp_path, capsys):
    from advice import DEFAULT, table

    def compared(error, cosine):
        ends = {"low": 0.1, "high": 0.9}
        return {"mean_squared_error": {"value": error}, "cosine": {"value": cosine} | ends}

    estimators = {DEFAULT: compared(2.0, 0.5), "1 step": compared(1.0, None)}
    arms = {"recommended": "1 step", "direction": DEFAULT, "default": DEFAULT, "worst": DEFAULT}
    advice = {"kind": "advice", "task": "T", "arms": arms, "batch_episodes": 8}
    lines = [advice | {"comparison": {"estimators": estimators}}]
    for seed, value in enumerate((1.0, 2.0, 3.0)):
        lines.append(
            {"kind": "run", "task": "T", "estimator": "1 step", "seed": seed}
            | {"stochastic": value, "over_run": 2 * value}
        )
    file = tmp_path / "advice.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table(SimpleNamespace(file=file))
    shown = capsys.readouterr().out
    assert "| T | 1 step | recommended | 0.5 | not known | 2.0 | [1.0, 3.0] | 4.0 |" in shown
    assert f"| T | {DEFAULT} | direction, default, worst | 1 | 0.50 [0.10, 0.90] | – | –" in shown


def test_approximations_are_medians_over_seeds():
    import approximations

    task = next(iter(approximations.TASKS))

    def line(seed, share, value):
        names = (*approximations.RATIOS, "excess_ratio", "explained_variance")
        where = {"task": task, "seed": seed, "share": share, "env_steps": int(1000 * share) + seed}
        return where | {name: {"value": value} for name in names}

    at = {0.1: 0.5, 1.0: -0.75}
    lines = [line(s, share, value + s) for s in range(3) for share, value in at.items()]
    x, y = approximations.medians(lines, "cross_ratio")
    assert (x, y) == ([101.0, 1001.0], [1.5, 0.25])
    assert approximations.points(lines, "cross_ratio", 2) == ([102, 1002], [2.5, 1.25])
    table = approximations.table(lines)
    assert f"| {task} | 10% | 1.50 (0.50 to 2.50) |" in table
    # no axis without decades between its ends: a ratio near zero beside ratios near one
    figure = approximations.draw([*lines, line(3, 1.0, 0.01)], task)
    low, high = figure.axes[0].get_ylim()
    assert figure.axes[0].get_yscale() == "log"
    assert low <= 0.01 < 3 < high
    assert len(figure.axes[0].get_yticks()) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_what_is_timed_acts_alike(tmp_path, count):
    from action_cost import POLICIES, check_alike, ways_to_act

    for number, pair in enumerate(POLICIES.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        ways = ways_to_act(*pair, count, folder)
        check_alike(ways)
        with pytest.raises(AssertionError):
            check_alike(
                ways | {"another": lambda ways=ways: jax.tree.map(lambda x: x + 1, ways["NumPy"]())}
            )


def test_the_table_of_actions_shows_the_least():
    from action_cost import table

    found = {"a policy": {"1": {"here": [3.0, 2.0], "there": [1_000.4, 1_200.0]}}}
    assert table(found).splitlines() == [
        "| policy | observations | here | there |",
        "|---|---|---|---|",
        "| a policy | 1 | 2 | 1,000 |",
    ]


@pytest.mark.slow
def test_backpropagation_that_ends_at_a_row_loses_what_was_remembered_before_it():
    import truncation
    from gymnasium import spaces
    from policygrad.networks import Memory, network_policy

    from policygrad.gradients.scores import policy_gradient
    from policygrad.policies import meeting
    from tests.records import random_episodes

    box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    policy = network_policy(
        jax.random.key(0), box, spaces.Discrete(2), hidden=(4,), memory=Memory("gru", 3)
    )
    record = random_episodes()
    start = meeting.initial_carry(policy, record.rewards.shape[1])
    record = truncation.replace(record, carry=jax.tree.map(lambda x: x[None], start))
    weights = np.asarray(record.rewards, np.float32)
    every = np.arange(len(weights))[:, None] % np.full(weights.shape[1], 2) == 0
    whole, cut = (truncation.gradient(policy, record, weights, b) for b in (every & False, every))
    theirs = jax.jit(policy_gradient)(policy, record, weights)
    flat = truncation.ravel_pytree(theirs)[0]
    np.testing.assert_allclose(whole[truncation.ALL], flat, atol=1e-6)
    lost = np.asarray(cut[truncation.ALL]) - flat
    own, head = (truncation.ravel_pytree(x)[0].size for x in (theirs, theirs.network.head))
    assert np.linalg.norm(lost) > 1e-4
    np.testing.assert_allclose(lost[own - head :], 0, atol=1e-6)
    assert np.linalg.norm(cut[truncation.REMEMBERED] - whole[truncation.REMEMBERED]) > 1e-4


def test_runs_with_and_without_memory_are_told_side_by_side():
    import memory_tasks

    def line(memory, seed, value):
        return {"task": "MemoryChain", "memory": memory, "algorithm": "ppo", "seed": seed,
                "steps": 2048, "stochastic": value, "deterministic": value, "over_run": 0.0,
                "seconds": 1.0}  # fmt: skip

    lines = [line("gru", 1, 0.97), line("none", 0, -0.001), line("gru", 0, 0.9)]
    gru, none = memory_tasks.rows_of(lines)
    assert gru["stochastic"] == [0.9, 0.97]
    assert (gru["solved"], none["solved"]) == (1, 0)
    told = memory_tasks.markdown([gru, none]).splitlines()
    assert told[2].endswith("| 2,048 | 0.90, 0.97 | 0.90, 0.97 | 1 of 2 (≥ 0.95) |")
    assert told[3].endswith("| 2,048 | 0.00 | 0.00 | 0 of 1 (≥ 0.95) |")


def test_a_broken_step_size_is_that_of_its_algorithm():
    from doctor import steps

    assert steps(100)("ppo") == {"step_size": pytest.approx(0.03)}
    assert steps(0.1)("natural") == {"target_kl": pytest.approx(0.003)}


def test_the_table_of_trials_counts_what_was_cured(tmp_path, capsys):
    from trying import table

    def cell(case, broken, environment=False, right=True, **more):
        return {
            "kind": "cure", "case": case, "broken": broken, "env": "E", "algorithm": "a",
            "found": ["f"] if broken else [], "right": right, "in_the_environment": environment,
            "adopted": {}, "trial": {"steps": 1000}, **more,
        }  # fmt: skip

    lines = [
        cell("a", True, share=0.95, share_of_first=0.95, adopted={"step_size": 0.1}),
        cell("b", True, share=0.5, share_of_first=0.9),
        cell("c", True, environment=True),
        cell("d", True, environment=True, right=False),
        cell("e", False),
        cell("f", False, adopted={"discount": 0.9}, difference={"high": -1.0}),
        *(
            {"kind": "gain", "task": "T", "seed": s, "adopted": {"x": 1}, "with_advice": 3.0 + s,
             "default_for_as_long": 1.0}
            for s in range(2)
        ),
    ]  # fmt: skip
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table(SimpleNamespace(file=path))
    out = capsys.readouterr().out
    assert "cured by the first advice: 2 of 2; by what the trial adopted: 1;" in out
    assert "the environment named as broken: 1 of 2" in out
    assert "healthy: 2, something adopted in 1, lower beyond the interval in 1" in out
    assert "| T | 2 | 2 | 2.5 [" in out


def test_a_failed_run_is_told_by_what_was_found_and_what_it_is_beside():
    from failed_runs import FAILED, HEALTHY, returns, said

    assert len(FAILED) == len(HEALTHY) == 20
    assert len({case.folder(0) for case in (*FAILED, *HEALTHY)}) == 40
    row = {
        "found": [], "healthy": None,
        "standing": {"now": {"value": 21.25}, "at_random": None, "best": 420.0},
    }  # fmt: skip
    assert returns(row) == "21.25 | – | 420"
    assert said(row) == "no clean bill"
    assert said(row | {"healthy": True}) == "healthy"
    assert said(row | {"found": ["a", "b"], "healthy": False}) == "`a`, `b`"
    assert returns(row | {"standing": None}) == "– | – | –"


def test_the_environments_that_fail_do_what_they_say():
    from failed_runs import Corridor, Cue, Wired

    swapped = Wired("swapped")
    swapped.reset(seed=0)
    swapped._steps = 2500
    plain = Wired("late").env
    plain.reset(seed=0)
    np.testing.assert_array_equal(swapped.step(0)[0], plain.step(1)[0])
    late = Wired("late")
    taken = []
    late.env = SimpleNamespace(step=taken.append)
    for action in [1] + [0] * 31:
        late.step(action)
    assert taken == [0] * 30 + [1, 0]

    cue = Cue()
    shown, _ = cue.reset(seed=3)
    steps = [cue.step(shown) for _ in range(10)]
    assert [step[0] for step in steps] == [2] * 10
    assert [step[1] for step in steps] == [0.0] * 9 + [1.0]
    assert steps[-1][2]

    exit_ = Corridor(-1.0, 0.1)
    exit_.reset(seed=0)
    assert [exit_.step(1)[1:3] for _ in range(4)] == [(0.1, False)] * 3 + [(-1.0, True)]
    endless = Corridor(leaves=False)
    endless.reset(seed=0)
    assert [endless.step(1)[:3] for _ in range(4)][-1] == (3, 1.0, False)
