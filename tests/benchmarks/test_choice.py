"""Candidates beside the defaults: gains in score, what survives, what wins."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TASKS = ("HalfCheetah-v5", "Ant-v5")


@pytest.fixture
def choice(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import choice

    return choice


def runs(task, algorithm, scores):
    """Runs whose two scores are s + 0.1 and s − 0.1."""
    from tasks import KNOWN

    known = KNOWN[task]

    def value(score):
        return known.random + score * (known.goal - known.random)

    return [
        {
            "task": task, "algorithm": algorithm, "seed": seed,
            "deterministic": {"mean": value(s + 0.1)}, "stochastic": {"mean": value(s - 0.1)},
        }
        for seed, s in enumerate(scores)
    ]  # fmt: skip


def beside(choice, gains, spread=0.0):
    """A candidate that gains so much on each task, beside one at 0.5."""
    at = 0.5 + np.array([-spread, 0.0, spread])
    lines = []
    for task, gain in zip(TASKS, gains, strict=True):
        lines += runs(task, "natural", at) + runs(task, "natural+x", at + gain)
    (found,) = choice.comparisons(lines, "natural")
    return found


def test_gains(choice):
    found = beside(choice, (0.2, -0.1))
    assert found.gains == pytest.approx({"HalfCheetah-v5": 0.2, "Ant-v5": -0.1})
    assert found.gain == pytest.approx(0.05)
    assert found.interval == pytest.approx((0.05, 0.05))


@pytest.mark.parametrize(
    ("gains", "survives"),
    [
        ((0.031, 0.031), True),
        ((0.029, 0.029), False),
        ((0.2, -0.099), True),
        ((0.4, -0.101), False),
    ],
)
def test_who_survives(choice, gains, survives):
    assert beside(choice, gains).survives is survives


def test_who_wins(choice):
    assert beside(choice, (0.1, 0.1), spread=0.05).wins
    assert not beside(choice, (0.1, 0.1), spread=0.5).wins
    assert not beside(choice, (-0.1, -0.1)).wins


def test_the_interval_is_that_of_a_difference_of_means(choice):
    random = np.random.default_rng(1)
    pairs = [random.normal(size=(2, 400)) for _ in range(2)]
    low, high = choice.interval_of(pairs)
    error = np.sqrt(sum(both.var(axis=1).sum() / 400 for both in pairs)) / 2
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_only_what_both_have_run_is_compared(choice):
    lines = runs("Ant-v5", "natural", [0.5, 0.5, 0.5]) + runs("Ant-v5", "natural+x", [0.7])
    lines += runs("HalfCheetah-v5", "natural+x", [0.9])
    lines += runs("HalfCheetah-v5", "natural+y", [0.9])
    (found,) = choice.comparisons(lines, "natural")
    assert (found.name, found.seeds) == ("natural+x", {"Ant-v5": [0]})
    assert found.gain == pytest.approx(0.2)
    assert not found.wins  # of one seed nothing can be said
    assert "–" in choice.markdown([found], "natural")
    assert json.loads(json.dumps(choice.plain(found), allow_nan=False))["interval"] is None
    there = re.escape("no run of vanilla; there are: natural, natural+x, natural+y")
    with pytest.raises(ValueError, match=there):
        choice.comparisons(lines, "vanilla")


def test_the_command(choice, tmp_path, monkeypatch, capsys):
    import suite

    results = tmp_path / "results.jsonl"
    lines = runs("Ant-v5", "natural", [0.5, 0.6]) + runs("Ant-v5", "natural+x", [0.9, 0.8])
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["suite.py", "choice", str(results), "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", command)
    suite.main()
    shown = capsys.readouterr().out
    assert "| natural+x | 2 | +0.300 |" in shown
    assert "beyond the interval: natural+x" in shown
    assert json.loads((tmp_path / "out.json").read_text())[0]["wins"] is True
    monkeypatch.setattr(sys, "argv", [*command[:3], "--against", "ppo"])
    with pytest.raises(SystemExit, match="no run of ppo"):
        suite.main()
