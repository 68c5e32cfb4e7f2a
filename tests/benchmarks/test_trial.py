"""The table of the trial: verdicts, blanks, where the figures come from."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def trial(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import trial

    return trial


def line(task, algorithm, seed, deterministic, stochastic=0.0, steps=1000, **rest):
    from cells import Cell

    return {
        "task": task, "algorithm": algorithm, "seed": seed, "total_steps": steps, "steps": 1024,
        "deterministic": {"mean": deterministic}, "stochastic": {"mean": stochastic},
        "command": Cell(task, algorithm, seed, steps).command, "date": "2026-11-30",
        "commit": "abc", "versions": {"jax": "1"},
    } | rest  # fmt: skip


def runs(task, algorithm, returns, **rest):
    return [line(task, algorithm, seed, value, **rest) for seed, value in enumerate(returns)]


def judged(trial, ours, *peers):
    plan = trial.Plan({"T": 1000}, dict.fromkeys(["natural", "sb3-ppo-zoo", "sb3-ppo"], range(3)))
    lines = runs("T", "natural", ours)
    for name, returns in zip(("sb3-ppo-zoo", "sb3-ppo"), peers, strict=False):
        lines += runs("T", name, returns)
    found = trial.figures(plan, lines, "deterministic")
    return trial.verdicts(plan, found)["T"]


def test_verdicts(trial):
    high, low, wide = [10.0, 11.0, 12.0], [1.0, 2.0, 3.0], [0.0, 5.0, 30.0]
    assert judged(trial, high, low, low) == "ahead"
    assert judged(trial, low, high, low) == "behind"
    assert judged(trial, high, low, [0.0, 5.0, 10.5]) == "ahead, within the intervals"
    assert judged(trial, high, low, wide) == "behind, within the intervals"
    # below one peer beyond the intervals, though the best one's interval is wide
    assert judged(trial, low, high, wide) == "behind"
    assert judged(trial, high, high, low) == "level"
    assert judged(trial, high[:2], low, low) == "ahead, so far"
    assert judged(trial, high, low) == "ahead, so far"
    assert judged(trial, high[:1], low, low) == "ahead, within the intervals, so far"
    assert judged(trial, [], low, low) == judged(trial, high) == ""


def test_only_runs_of_the_plan_count(trial):
    plan = trial.Plan({"T": 1000}, {"natural": range(3), "sb3-ppo-zoo": range(2)})
    lines = runs("T", "natural", [1.0, 3.0, 5.0])
    lines += [line("T", "natural", 3, 99.0), line("T", "natural", 0, 99.0, steps=300)]
    lines += [line("U", "natural", 0, 99.0), line("T", "ppo", 0, 99.0)]
    found = trial.figures(plan, lines, "deterministic")["T"]
    assert found["natural"].returns == [1.0, 3.0, 5.0]
    assert (found["natural"].least, found["natural"].complete) == (1.0, True)
    assert found["sb3-ppo-zoo"] is None
    assert "Runs in the file that are not of this plan: 4." in trial.markdown(plan, lines)


def test_the_table_says_what_is_missing_and_where_figures_come_from(trial):
    plan = trial.Plan(
        {"HalfCheetah-v5": 1000, "Reacher-v5": 1000},
        {"natural": range(20, 23), "sb3-trpo-zoo": range(5)},
    )
    lines = [line("HalfCheetah-v5", "natural", s, 5000.0 + s, 4000.0) for s in range(20, 23)]
    lines += runs("HalfCheetah-v5", "sb3-trpo-zoo", [1.0, 2.0, 3.0], commit="def")
    text = trial.markdown(plan, lines).splitlines()
    assert text[0] == (
        "| deterministic, steps | natural, seeds 20 to 22 "
        "| sb3-trpo-zoo, tuned per task, seeds 0 to 4 | verdict |"
    )
    assert text[2] == (
        "| HalfCheetah-v5, 1,000 | 5,021 [5,020, 5,022], least 5,020 "
        "| 2.00 [1.00, 3.00], least 1.00 (3 of 5 seeds) | ahead, so far |"
    )
    assert text[3] == "| Reacher-v5, 1,000 |  |  |  |"
    assert text[5] == (
        "natural: ahead of every peer by IQM on 1 of 2 tasks, behind beyond the intervals on 0. "
        "Tasks with cells that have not been run: 2."
    )
    assert any(row.startswith("| HalfCheetah-v5, 1,000 | 4,000 [4,000, 4,000]") for row in text)
    assert "- natural: 3 of 6 runs, 2026-11-30, at abc; jax 1" in text
    assert (
        "  `policygrad train $TASK --algorithm natural --seed $SEED --total-steps 1000 --out RUN "
        "&& policygrad evaluate RUN --seed $((10000 + SEED))`"
    ) in text
    assert "- sb3-trpo-zoo: 3 of 10 runs, 2026-11-30, at def; jax 1" in text


def test_a_head_names_seeds_and_tuning(trial):
    assert trial.head("natural", [3]) == "natural, seed 3"
    assert trial.head("sb3-ppo-zoo", range(5)) == "sb3-ppo-zoo, tuned per task, seeds 0 to 4"


def test_the_tally_counts_by_iqm_and_beyond_the_intervals(trial):
    within = ["ahead, within the intervals", "behind, within the intervals"]
    assert "on 2 of 4 tasks, behind beyond the intervals on 1." in trial.tally(
        "natural", ["ahead", "behind", *within]
    )


def test_the_command_line_prints_the_table_and_writes_numbers(trial, tmp_path, monkeypatch, capsys):
    import suite

    path, out = tmp_path / "r.jsonl", tmp_path / "t.json"
    lines = [line("Ant-v5", "natural+wide", 20, 3.0), line("Ant-v5", "sb3-ppo-zoo", 20, 1.0)]
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    arguments = ["trial", path, "--tasks", "Ant-v5", "--steps", 1000, "--ours", "natural+wide"]
    monkeypatch.setattr(sys, "argv", ["suite.py", *map(str, arguments), "--json", str(out)])
    suite.main()
    assert "3.00 –, least 3.00 (1 of 10 seeds)" in capsys.readouterr().out
    numbers = json.loads(out.read_text())
    assert len(numbers) == 2 * 4
    assert numbers[0]["figure"]["returns"] == [3.0]
    assert numbers[0]["figure"]["interval"] is None
    assert numbers[0]["verdict"] == "ahead, within the intervals, so far"
    assert numbers[2]["figure"] is None
