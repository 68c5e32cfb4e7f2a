import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def summary(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import summary

    return summary


def cell(task, algorithm, seed, mean, steps=1000, seconds=2.0, **rest):
    line = {"task": task, "algorithm": algorithm, "seed": seed, "steps": steps, "env": task}
    evaluation = {"stochastic": {"mean": mean}, "seconds": seconds}
    return line | evaluation | {"curve": [[100, mean / 2], [1000, mean]]} | rest


def test_stratified_interval_resamples_within_tasks(summary):
    # no spread within a task: whatever the spread between them, nothing to be unsure of
    point, (low, high) = summary.stratified_interval([[0.0] * 5, [1.0] * 5])
    assert point == low == high == 0.5
    # one task: the bootstrap over its runs; the exact law of the resampled IQM of {0, 1}
    point, (low, high) = summary.stratified_interval([[0.0, 1.0]])
    assert (point, low, high) == (0.5, 0.0, 1.0)
    _, (low, _) = summary.stratified_interval([[0.0], [1.0, 2.0]])
    assert low == -np.inf


def test_stratified_interval_covers(summary):
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        _, (low, high) = summary.stratified_interval(random.normal(size=(3, 10)), 500)
        hits += low <= 0 <= high
    assert 0.85 <= hits / 200 <= 0.99  # a percentile bootstrap of few runs is a little short


def test_rows_and_overall(summary):
    lines = [cell("CartPole-v1", "ppo", s, m) for s, m in ((2, 475.0), (0, 26.5), (1, 100.0))]
    lines += [cell("CartPole-v0", "ppo", s, 195.0, seconds=4.0) for s in range(3)]
    lines += [cell("CartPole-v1", "sb3-ppo", 0, 500.0)]
    rows = summary.rows_of(lines)
    assert [(r.task, r.algorithm) for r in rows] == [
        ("CartPole-v1", "ppo"), ("CartPole-v1", "sb3-ppo"), ("CartPole-v0", "ppo"),
    ]  # fmt: skip
    assert rows[0].seeds == [0, 1, 2]
    assert rows[0].returns == [26.5, 100.0, 475.0]
    assert rows[0].iqm == pytest.approx(np.mean([26.5, 100.0, 475.0]))
    assert rows[2].steps_per_second == 250.0
    assert summary.overall(rows) == {}  # one task in common is no overall
    scores = summary.overall([row for row in rows if row.algorithm == "ppo"])
    # 0, (100 − 26.5) / 448.5, 1 and three times 1: one cut off at either end
    assert scores["ppo"][0] == pytest.approx((73.5 / 448.5 + 3) / 4)
    text = summary.markdown(rows)
    assert "| CartPole-v1 | sb3-ppo | 500.0 | – |" in text


def test_curves_meet_on_a_grid(summary):
    import curves

    steps, values = curves.on_grid([[[0, 0.0], [10, 10.0]], [[5, 1.0], [15, 1.0]]], points=3)
    assert steps.tolist() == [5.0, 7.5, 10.0]
    assert values.tolist() == [[5.0, 7.5, 10.0], [1.0, 1.0, 1.0]]


def test_table_and_plot_read_a_file(summary, tmp_path, monkeypatch, capsys):
    import suite

    path = tmp_path / "results.jsonl"
    lines = [cell("CartPole-v1", a, s, 100.0 + s) for a in ("ppo", "vanilla") for s in range(3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["suite.py", *map(str, arguments)])
        suite.main()
        return capsys.readouterr().out

    assert "| CartPole-v1 | ppo | 101.0 |" in run("table", path, "--json", tmp_path / "t.json")
    assert len(json.loads((tmp_path / "t.json").read_text())) == 2
    run("plot", path, "--out", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
