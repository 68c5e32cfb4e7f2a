"""The suite's cells: commands, what is run again, what a killed program leaves."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def options(*arguments):
    import suite

    found = suite.parser().parse_args(["run", *map(str, arguments)])
    found.tasks, found.settings = suite.named(found.tasks), dict(found.settings)
    return found


def test_groups_are_tasks_each_once():
    from tasks import GROUPS, KNOWN, named

    assert len(GROUPS["mujoco"]) == 8
    assert all(name in KNOWN for names in GROUPS.values() for name in names)
    assert named(["Ant-v5", "mujoco"])[:2] == ["Ant-v5", "HalfCheetah-v5"]
    assert len(named(["Ant-v5", "mujoco", "default"])) == 8 + 4


def test_random_returns_are_of_uniform_actions_and_repeat():
    from tasks import KNOWN, random_returns

    found = random_returns("CartPole-v1", 200)
    assert found == random_returns("CartPole-v1", 200)
    # their standard deviation is about 12: five standard errors, and those of the 50 in the table
    assert sum(found) / 200 == pytest.approx(22.2, abs=4.3)
    assert KNOWN["CartPole-v1"].random == pytest.approx(22.2, abs=8.5)


def test_a_score_is_0_at_random_actions_and_1_at_the_goal():
    from tasks import MUJOCO

    for task in MUJOCO.values():
        assert task.goal > task.random
        assert (task.score(task.random), task.score(task.goal)) == (0.0, 1.0)


def test_the_zoo_has_every_task_of_the_trial_and_whole_batches():
    from tasks import MUJOCO
    from workers import zoo

    for settings in (zoo.PPO, zoo.TRPO):
        assert set(settings) == set(MUJOCO)
    for task, one in zoo.PPO.items():
        rows = one.get("n_steps", 2048) * one.get("n_envs", 1)
        batch = one.get("batch_size", 64)
        assert rows % batch == 0 or batch > rows, task  # larger: one batch of all rows


def test_settings_have_names_and_show_in_algorithm_and_command():
    import suite

    wide = "wide=--critic-hidden 128 128"
    found = suite.cells_of(
        options("x", "--tasks", "Ant-v5", "--algorithms", "natural", "natural+wide", "--settings",
                wide, "--seeds", 1, "--first-seed", 7, "--steps", 100)
    )  # fmt: skip
    assert [cell.key for cell in found] == [
        ("Ant-v5", "natural", 7), ("Ant-v5", "natural+wide", 7)
    ]  # fmt: skip
    assert found[0].command == (
        "policygrad train Ant-v5 --algorithm natural --seed 7 --total-steps 100 --out RUN "
        "&& policygrad evaluate RUN --seed 10007"
    )
    assert "--algorithm natural --critic-hidden 128 128 --seed 7" in found[1].command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algorithms", "natural+wide"], "no settings wide"),
        (["--algorithms", "sb3-ppo+wide", "--settings", "wide=--x 1"], "no algorithm sb3-ppo"),
        (["--algorithms", "naturel"], "no algorithm naturel"),
        (["--settings", "wide=--x 1"], "no algorithm asks for"),
    ],
)
def test_what_is_not_known_is_refused(arguments, message):
    import suite

    with pytest.raises(ValueError, match=message):
        suite.cells_of(options("x", *arguments))


def test_peers_run_only_the_tasks_that_they_have():
    import suite

    asked = ["--tasks", "Ant-v5", "CartPole-v1", "--algorithms", "sb3-trpo-zoo", "rejax-ppo"]
    found = suite.cells_of(options("x", *asked, "--seeds", 1))
    assert [cell.key[:2] for cell in found] == [
        ("Ant-v5", "sb3-trpo-zoo"), ("CartPole-v1", "rejax-ppo")
    ]  # fmt: skip


def test_a_cell_with_a_line_is_not_run_again_unless_its_command_differs(tmp_path):
    import suite
    from cells import Cell
    from common import append_line

    path = tmp_path / "records" / "r.jsonl"
    ran, left = (Cell("Ant-v5", "natural", seed, 100) for seed in (0, 1))
    append_line(path, {"task": "Ant-v5", "algorithm": "natural", "seed": 0, "command": ran.command})
    assert suite.not_yet_run([ran, left], path) == [left]
    with pytest.raises(ValueError, match="by another command"):
        suite.not_yet_run([Cell("Ant-v5", "natural", 0, 200)], path)


def test_half_a_line_is_not_read_and_is_cut_off(tmp_path, capsys):
    from common import append_line, read_lines

    path = tmp_path / "r.jsonl"
    append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b')
    assert read_lines(path) == [{"a": 1}]
    append_line(path, {"a": 3})
    assert path.read_text() == '{"a": 1}\n{"a": 3}\n'
    assert "half a line is cut off" in capsys.readouterr().err


def test_lines_of_many_threads_are_all_whole(tmp_path):
    from common import append_line, read_lines

    path = tmp_path / "r.jsonl"
    threads = [
        threading.Thread(target=append_line, args=(path, {"n": n, "x": "-" * 20_000}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line["n"] for line in read_lines(path)) == list(range(8))


def test_curves_are_thinned_to_their_end():
    from cells import POINTS, thinned

    curve = [[float(i), 0.0] for i in range(1, 1001)]
    short = thinned(curve)
    assert (short[0], short[-1], len(short)) == (curve[0], curve[-1], POINTS + 1)
    assert thinned(curve[:3]) == curve[:3]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited 30 s")


# a worker that says that it runs, and stays
SLEEPER = """
import os, pathlib, signal, sys, time
{first}
pathlib.Path({folder!r}, str(os.getpid())).touch()
time.sleep(600)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_cells_that_run_and_starts_no_other(tmp_path, signum):
    """Cells that would sleep for ten minutes, two at a time; one of them ignores SIGTERM."""
    folder, results = tmp_path / "pids", tmp_path / "r.jsonl"
    folder.mkdir()
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN) if 'Ant-v5' in sys.argv else None"
    (tmp_path / "run_sb3.py").write_text(SLEEPER.format(first=deaf, folder=str(folder)))
    program = tmp_path / "program.py"
    program.write_text(f"""
import sys, pathlib
sys.path.insert(0, {str(BENCHMARKS)!r})
import cells, suite
cells.WORKERS = pathlib.Path({str(tmp_path)!r})
suite.CHILDREN.grace = 0.5
suite.main()
""")
    arguments = ["run", str(results), "--tasks", "Ant-v5", "Hopper-v5", "Swimmer-v5"]
    arguments += ["--algorithms", "sb3-ppo-zoo", "--jobs", "2", "--sb3-python", sys.executable]
    suite = subprocess.Popen(
        [sys.executable, str(program), *arguments], stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(list(folder.iterdir())) == 2)
    suite.send_signal(signum)
    _, errors = suite.communicate(timeout=60)
    assert suite.returncode == 1
    assert "interrupted; the same command goes on" in errors
    pids = [int(path.name) for path in folder.iterdir()]
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)
    assert not results.exists()


def test_the_commit_is_dirty_by_its_code_and_not_by_its_records(tmp_path, monkeypatch):
    import common

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True)

    records = tmp_path / common.RECORDS
    records.mkdir(parents=True)
    code, record = tmp_path / "benchmarks" / "code.py", records / "trial.jsonl"
    for path in (code, record):
        path.write_text("1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(common, "HERE", tmp_path / "benchmarks")
    clean = common.provenance()["commit"]
    record.write_text("1\n2\n")
    assert common.provenance()["commit"] == clean
    code.write_text("2\n")
    assert common.provenance()["commit"] == f"{clean}-dirty"
    json.dumps(common.provenance())
