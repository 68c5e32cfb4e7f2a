"""A diagnosis in words: `print` shows what the command does."""

import pytest

from policygrad import Diagnosis
from policygrad.cli.diagnose import show
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.doctor.of_logs import diagnose_logs
from tests.figures.test_page import GROUPS

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
    assert "(needs " in told


def test_the_repr_is_short():
    found = Diagnosis((FINDING, FINDING), EXAMINATION, name="runs/a")
    assert repr(found) == "<Diagnosis of runs/a: a-rule, a-rule>"
    assert repr(Diagnosis((), EXAMINATION)) == "<Diagnosis of the run: no findings>"
