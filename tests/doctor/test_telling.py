"""A diagnosis in words: `print` shows what the command does."""

from dataclasses import replace

import numpy as np
import pytest

from policygrad import Diagnosis
from policygrad.cli.diagnose import show
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.doctor.of_logs import diagnose_logs
from tests.diagnostics.test_clean_bill import AS_RANDOM, RISEN, UPDATES, series
from tests.report.test_writing import GROUPS

FINDING = Finding(
    "a-rule", "Too loud.", "It was 3.", {"x": 3.0}, "Train with --less.", 0.5, "A. Uthor"
)
EXAMINATION = Examination(
    env="chain", settings={"batch_episodes": 8}, passed_as_objects=(), metrics={}, env_steps=2048,
    groups=GROUPS, notes=("the weather",),
)  # fmt: skip


def test_everything_is_told_once():
    told = str(Diagnosis((FINDING,), EXAMINATION, name="runs/a"))
    assert told.splitlines() == [
        "runs/a: looked at 2,048 steps, 0 updates",
        "",
        "1. Too loud.",
        "   It was 3.",
        "   → Train with --less.",
        "   (a-rule; A. Uthor)",
        "",
        "noise of the gradient, from 32 groups of 4, 2 weighed together (95 % intervals):",
        "   between groups: 1 (0.25 to 1.75)",
        "   within groups, one episode: 12 (9 to 16)",
        "   both are equal at 5 to 30 episodes a group",
        "   a batch of m groups of k has the variance (between + within / k) / m",
        "   2 groups of 4, as in use: variance 2",
        "   4 groups of 2, the least for as many episodes: variance 1.75",
        "not examined: the weather",
    ]


def test_a_clean_bill_says_what_was_looked_at():
    told = str(Diagnosis((), replace(RISEN, metrics=series(kl=np.full(UPDATES, 0.01)))))
    assert " ".join(told.split()) == (
        "the run: looked at 40,960 steps, 20 updates, 64 fresh episodes, 64 episodes of random "
        "actions, 64 by the mode "
        "Healthy, as far as was looked at: 33 rules found nothing, and the return is "
        "clearly above that of random actions and not clearly below its best. No rule looks at "
        "whether a better return is possible, or whether the reward is the right one. mean return "
        "(95 % intervals): now: 100 [89.93, 110.1], of 64 fresh episodes "
        "by the mode: 110 [102.4, 117.6], of 64 episodes, 3 stopped without an end; the difference "
        "is 10 [-2.476, 22.48] of random actions: 22 "
        "[18.98, 25.02], of 64 episodes; the difference is 78 [67.52, 88.48] best in training: "
        "100, at update 20 of 20; not lost since"
    )


def test_without_a_clean_bill_the_doubts_are_told():
    as_random = replace(RISEN, sample=replace(RISEN.sample, **AS_RANDOM))
    told = " ".join(str(Diagnosis((), as_random)).split())
    assert "Nothing was found by 33 rules, but this is no clean bill. - The return is not" in told
    assert "Healthy" not in told


def test_a_run_with_a_fault_that_learned_all_the_same_is_told_so():
    told = " ".join(str(Diagnosis((FINDING,), RISEN)).split())
    assert "All the same the run has learned: its return is clearly above" in told
    assert told.index("All the same") < told.index("mean return (95 %")
    assert "All the same" not in str(Diagnosis((FINDING,), EXAMINATION))


@pytest.fixture
def of_a_log(tmp_path):
    rows = "".join(f"{i},{20 + i}\n" for i in range(30))
    (tmp_path / "log.csv").write_text(f"update,score\n{rows}")
    return diagnose_logs(tmp_path / "log.csv", columns={"return": "score"})


def test_print_and_the_command_say_the_same(of_a_log, capsys):
    for diagnosis in (Diagnosis((FINDING,), EXAMINATION), of_a_log):
        show(diagnosis)
        shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert shown == str(diagnosis).split("\n")
        assert "\x1b" not in str(diagnosis)


def test_a_log_is_named_and_what_it_lacks_is_told(of_a_log):
    told = str(of_a_log).replace("\n", " ")
    assert of_a_log.name.endswith("log.csv")
    assert told.startswith(of_a_log.name[:20])
    assert "looked at: " in told
    assert (
        "mean return: 21 in the first rows, 49 at its best, 46.5 in the last rows: it rose" in told
    )
    assert of_a_log.healthy is None
    assert "(needs " in told


def test_the_repr_is_short():
    found = Diagnosis((FINDING, FINDING), EXAMINATION, name="runs/a")
    assert repr(found) == "<Diagnosis of runs/a: a-rule, a-rule>"
    assert repr(Diagnosis((), EXAMINATION)) == "<Diagnosis of the run: no findings>"
