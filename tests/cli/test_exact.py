"""`policygrad exact`: its table, its JSON, its picture, and mistakes in one line."""

import json
import math
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from policygrad.cli import run
from policygrad.cli.exact import join_theta


def table(capsys, *arguments):
    """Exit code, what `--json` printed, by row name."""
    assert run(["exact", *arguments, "--json"]) == 0
    out = capsys.readouterr()
    assert out.err == ""
    data = json.loads(out.out, parse_constant=pytest.fail)
    return data, {row["name"]: row for row in data["rows"]}


def test_short_corridor_shows_its_golden_values(capsys):
    data, rows = table(capsys, "short_corridor")
    assert (data["states"], data["actions"], data["parameters"]) == (4, 2, 1)
    assert data["objective"] == pytest.approx(-12)
    assert data["gradient_norm"] == pytest.approx(2)
    golden = {
        "total return": 1959,
        "total return, b = J": 831,
        "reward to go": 733,
        "reward to go, b = J": 277,
        "reward to go, best const": 830 / 3,
        "reward to go, b = V": 295,
        "reward to go, optimal b": 820 / 3,
    }
    assert {name: rows[name]["variance"] for name in golden} == pytest.approx(golden)
    half = rows["TD, critic V/2"]
    assert half["bias"] > 0.1
    _, scaled = table(capsys, "short_corridor", "--critic-scale", "0.5")
    assert scaled["TD"] | {"name": ""} == half | {"name": ""}
    assert scaled["TD, critic V/2"] == half
    assert rows["all-action"]["approximation_ii"] is None
    loo = rows["total return, LOO"]
    parts = loo["diagonal"] + loo["cross"] + loo["between"] - loo["squared_mean"]
    assert loo["variance"] == pytest.approx(parts)
    assert loo["between"] == pytest.approx(4)  # ‖∇J‖² / (k − 1)


def test_names_restrict_the_rows(capsys):
    _, rows = table(
        capsys, "short-corridor", "--estimator", "td,reward_to_go", "--baseline", "none"
    )
    assert list(rows) == ["TD, b = 0", "reward to go"]
    _, rows = table(capsys, "short-corridor", "--estimator", "gae", "--gae-lambda", "0.5")
    assert len(rows) == 5  # all but leave-one-out and time-dependent, which need a horizon
    assert all(name.startswith("GAE 0.5") for name in rows)
    _, rows = table(
        capsys, "short-corridor", "--baseline", "value", "optimal", "--estimator", "n-step", "--n=2"
    )
    assert list(rows) == ["2-step", "2-step, optimal b"]
    assert rows["2-step, optimal b"]["variance"] < rows["2-step"]["variance"]


def test_leave_one_out_reads_the_batch(capsys):
    names = "--estimator", "total-return", "--baseline", "leave-one-out"
    _, rows = table(capsys, "short-corridor", *names, "--batch-episodes", "5")
    assert rows["total return, LOO"]["between"] == pytest.approx(4 / 4)


@pytest.mark.parametrize("theta", ["-1", "-1e0", "-1.0,"])
def test_theta_is_read_with_its_minus_sign(capsys, theta):
    p = 1 / (1 + math.e)
    data, _ = table(
        capsys, "short-corridor", "--theta", theta, "--estimator", "td", "--baseline", "value"
    )
    assert data["objective"] == pytest.approx((2 * p - 4) / (p * (1 - p)))


def test_theta_takes_commas_and_spaces():
    assert join_theta(["exact", "--theta", "-1,2", "-3e-1", "chain", "--json"]) == [
        "exact",
        "--theta=-1,2,-3e-1",
        "chain",
        "--json",
    ]
    assert join_theta(["train", "CartPole-v1", "--hidden", "64"])[-1] == "64"


def test_a_dropped_discount_is_biased(capsys):
    one = "--estimator", "reward-to-go", "--baseline", "none"
    data, rows = table(capsys, "discounted-counterexample", *one)
    assert data["discount"] == 0.5  # what the task is there to show
    assert rows["reward to go"]["bias"] < 1e-12
    _, rows = table(capsys, "discounted-counterexample", *one, "--no-discounted-states")
    assert rows["reward to go"]["relative_bias"] > 1  # it points away from the optimum
    assert rows["reward to go"]["episodes"] is None  # infinity has no JSON


def test_gymnasium_is_read(capsys):
    arguments = "--estimator", "td", "--baseline", "value", "--env-kwargs", '{"is_slippery": false}'
    data, rows = table(capsys, "FrozenLake-v1", *arguments, "--discount", "0.9", "--horizon", "9")
    assert (data["states"], data["parameters"], data["horizon"]) == (16, 64, 9)
    assert rows["TD"]["variance"] > 0
    assert rows["TD"]["relative_bias"] < 1e-9


def test_the_table_is_text_where_it_is_piped(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")  # of no concern to a file
    assert run(["exact", "short-corridor", "--estimator", "reward-to-go"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "short-corridor: 4 states, 2 actions, 1 parameter, no horizon, γ = 1"
    assert lines[1] == "J = -12, ‖∇J‖ = 2"
    assert lines[3].split() == ["estimator", "bias", "Var", "D", "=", "(i)", "C", "B", "(ii)", "N"]
    assert "reward to go, b = V" in lines[7]
    assert lines[7].split()[-7:] == ["0", "295", "263", "36", "4", "158.9", "315"]
    assert any("Σ E[g_t·g_k]" in line for line in lines)


def test_the_documentation_shows_what_is_printed(capsys):
    assert run(["exact", "short-corridor"]) == 0
    page = (Path(__file__).parents[2] / "docs" / "laboratory.md").read_text()
    assert textwrap.indent(capsys.readouterr().out, "    ") in page


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_a_terminal(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # stands in for a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(["exact", "short-corridor"]) == 0
    lines = plain(capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= columns
    rows = [line for line in lines if line.startswith(("total return", "reward to go"))]
    assert len(rows) == 8
    assert rows[0].split()[-1] == "2,088"
    assert not any("…" in line for line in lines)


def plain(text):
    """Without the codes for bold and dim."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_plot_is_drawn(capsys, tmp_path):
    path = tmp_path / "exact.png"
    arguments = ["short-corridor", "--estimator", "td", "--plot", str(path)]
    assert run(["exact", *arguments]) == 0
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert capsys.readouterr().out.splitlines()[-1] == str(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["short-coridor"], "unknown task 'short-coridor'; did you mean short-corridor?"),
        (["frozenlake-v1"], "did you mean FrozenLake-v1"),
        (["qqq"], "choose from two-armed-bandit"),
        (["CartPole-v1"], "CartPoleEnv carries no model"),
        (["nomodule:Env-v0"], "cannot make nomodule:Env-v0"),
        (["short-corridor", "--theta", "1,2"], "--theta has 2 numbers.*needs 1"),
        (["short-corridor", "--theta", "x"], "--theta must be numbers, got 'x'"),
        (["short-corridor", "--theta", "nan"], "theta must be finite"),
        (["short-corridor", "--theta", "40"], "to reach it; give the MDP a horizon"),
        (["short-corridor", "--discount", "1.5"], "discount must be between 0 and 1"),
        (["short-corridor", "--n", "0"], "n must be a whole number"),
        (
            ["short-corridor", "--n", "100000", "--estimator", "n-step"],
            r"NStep\(n=100000\) is too large",
        ),
        (["short-corridor", "--critic-scale", "nan"], "critic_scale must be finite"),
        (["short-corridor", "--batch-episodes", "1"], "at least 2 episodes"),
        (["short-corridor", "--horizon", "0"], "horizon must be a whole number"),
        (["short-corridor", "--seed", "1"], "only the task random takes a seed"),
        (["short-corridor", "--estimator", "tdd"], "--estimator.*did you mean td"),
        (["short-corridor", "--baseline", "value-network"], "no exact form; value is the V"),
        (["short-corridor", "--baseline", "time-dependent"], "needs a horizon"),
        (["short-corridor", "--estimator", "all-action", "--baseline", "value"], "no baseline"),
        (["chain", "--env-kwargs", '{"lenght": 3}'], "--env-kwargs for chain.*lenght"),
        (["random", "--env-kwargs", '{"horizon": null}'], "discount=1 needs absorption"),
        (
            ["short-corridor", "--estimator", "td", "--plot", "/nowhere/a.png"],
            "cannot write --plot",
        ),
        (["short-corridor", "--estimator", "td", "--plot", "a.nope"], "cannot write --plot"),
        (["token-task", "--groups", "2"], "--groups 2 needs --group-size"),
        (["token-task", "--group-size", "2", "--n", "2"], "--n is not read with --group-size"),
        (["token-task", "--group-size", "2", "--estimator", "td"], "--estimator: unknown.*'td'"),
        (["token-task", "--group-size", "1", "--estimator", "rloo"], "at least 2 episodes a group"),
        (["short-corridor", "--group-size", "2"], "give the MDP a horizon"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, message):
    assert run(["exact", *arguments]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert len(out.err.splitlines()) == 1
    assert out.err.startswith("policygrad: ")
    assert re.search(message, out.err)


def test_seed_makes_another_random_task(capsys):
    arguments = "--estimator", "td", "--baseline", "value"
    objectives = {
        table(capsys, "random", "--seed", seed, *arguments)[0]["objective"] for seed in "012"
    }
    assert len(objectives) == 3


def test_help_loads_no_numerical_library():
    code = (
        "import sys\nfrom policygrad.cli import run\n"
        "try:\n    run(['exact', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'jax', 'numpy', 'gymnasium', 'matplotlib', 'optax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "NAME_OR_ENV" in done.stdout


def test_training_is_not_imported():
    code = (
        "import sys\nfrom policygrad.cli import run\n"
        "run(['exact', 'two-armed-bandit', '--estimator', 'td', '--json'])\n"
        "above = {'policygrad.training.session', 'policygrad.rollout', 'matplotlib'}\n"
        "above &= set(sys.modules)\n"
        "assert not above, above\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_groups_have_a_table_of_their_own(capsys):
    arguments = ["exact", "token-task", "--group-size", "4", "--groups", "1"]
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["rloo"]["bias"] == pytest.approx(0, abs=1e-12)
    assert rows["group-mean"]["length"] == pytest.approx(3 / 4)
    assert rows["group-mean"]["cosine"] == pytest.approx(1)
    assert rows["grpo"]["cosine"] < 1
    assert list(found["not_shown"]) == ["shrinkage"]
    assert run([*arguments, "--estimator", "rloo,shrinkage"]) == 0
    text = capsys.readouterr().out
    assert "rloo" in text
    assert "not shown: shrinkage: this estimator needs at least 2 groups a batch, got 1" in text
