"""The page of a report: what it tells, and that every reader and every device can read it."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from policygrad.core.failures import Failure
from policygrad.diagnostics import diagnose
from policygrad.diagnostics.examination import Examination, Origin
from policygrad.logs import examine_table, read
from policygrad.report.page import Report, page
from policygrad.report.words import TERMS
from tests.diagnostics.test_clean_bill import RISEN
from tests.diagnostics.test_rules import RANDOM, UPDATES, examination
from tests.logs.written import progress, sb3_rows
from tests.report.parsed import Parsed

MADE = datetime(2030, 2, 3, 4, 5, tzinfo=UTC)
ORIGIN = Origin(
    written=datetime(2029, 12, 31, 23, 59, tzinfo=UTC),
    versions={"policygrad": "7.8.9", "jax": "1.2.3"},
    env_kwargs={"gravity": 9},
    given=("discount", "step_size"),
)
STEPS = 2048.0 * np.arange(1, UPDATES + 1)
FAULTY = examination(
    settings={"discount": 0.5, "step_size": 0.1},
    metrics={"kl": np.full(UPDATES, 2.0), "env_steps": STEPS},
    at_random=RANDOM,
    origin=ORIGIN,
)
HEALTHY = replace(RISEN, noise=None)
NOTHING = Examination(env=None, settings={}, passed_as_objects=(), metrics={})


def parsed(x: Examination, name: str = "runs/a<b", findings=...) -> Parsed:
    found = diagnose(x) if findings is ... else findings
    return Parsed(page(Report(name, found, x, MADE, {"policygrad": "9.9.9"})))


def told(found: Parsed) -> str:
    return " ".join(found.one("body").text.split())


@pytest.fixture
def log(tmp_path):
    """What the doctor knows of a log of another library."""
    return lambda rows: examine_table(read(progress(tmp_path / "PPO_1", rows)))


def test_a_run_with_a_fault_that_learned_all_the_same_is_told_so():
    fallen = replace(FAULTY, sample=replace(FAULTY.sample, returns=RANDOM.returns))
    assert "All the same the run has learned" in told(parsed(FAULTY))
    assert "All the same" not in told(parsed(fallen))
    assert "All the same" not in told(parsed(HEALTHY))


def test_it_is_one_document_for_every_reader():
    for found in (parsed(FAULTY), parsed(HEALTHY), parsed(NOTHING, findings=())):
        assert found.page.startswith("<!doctype html>")
        assert found.one("html").attributes["lang"] == "en"
        assert found.one("title").text == "runs/a<b: report of the doctor"
        assert found.one("h1").text == "runs/a<b"
        assert [x.inside for x in found.all("header", "main", "footer")] == [("html", "body")] * 3
        levels = [int(x.tag[1]) for x in found.all("h1", "h2", "h3", "h4")]
        assert levels[0] == 1
        assert max(np.diff(levels)) <= 1
        names = {x.attributes.get("id") for x in found.all("h2")}
        assert {x.attributes["aria-labelledby"] for x in found.all("section")} == names
        viewport = next(x for x in found.all("meta") if x.attributes.get("name") == "viewport")
        assert "width=device-width" in (viewport.attributes["content"] or "")


def test_nothing_is_fetched_and_nothing_runs():
    found = parsed(FAULTY)
    assert not found.all("script", "link", "iframe", "object")
    assert not re.search(r"https?://|url\(|@import", found.page)
    assert not [x for x in found.elements if {"src", "href", "onclick"} & x.attributes.keys()]


def test_tables_say_what_their_cells_belong_to_and_scroll_by_themselves():
    found = parsed(FAULTY)
    assert found.all("table")
    assert all(x.attributes["scope"] in ("row", "col") for x in found.all("th"))
    boxes = [x for x in found.all("div") if x.attributes.get("class") == "table"]
    assert len(boxes) == len(found.all("table")) == len(found.all("caption"))
    for box in boxes:
        assert box.attributes["tabindex"] == "0"
        assert box.attributes["aria-label"]


def test_what_the_run_was_is_said():
    found = parsed(FAULTY)
    times = [x.attributes["datetime"] for x in found.all("time")]
    assert times == ["2029-12-31T23:59:00+00:00", "2030-02-03T04:05:00+00:00"]
    text = told(found)
    assert "CartPole-v1 with gravity=9" in text
    assert "40,960 environment steps, 20 updates" in text
    assert "policygrad 7.8.9, jax 1.2.3" in text
    assert "policygrad 9.9.9" in found.one("footer").text


def test_settings_that_were_given_stand_out_and_all_others_are_folded_away():
    found = parsed(FAULTY)
    rows = found.rows("Settings that were given; all others have their defaults")
    assert rows == [["--discount", "0.5"], ["--step-size", "0.1"]]
    everything = found.rows("Every setting and its value")
    assert len(everything) == len(FAULTY.settings)
    assert ["--gae-lambda", "0.95"] in everything
    folded = next(x for x in found.all("caption") if x.text == "Every setting and its value")
    assert "details" in folded.inside
    bare = parsed(replace(FAULTY, origin=replace(ORIGIN, given=(), schedules=("discount",))))
    assert "No setting was given: all have their defaults." in told(bare)
    assert "Changed by a schedule as training went on: --discount." in told(bare)


def test_what_was_found_and_what_not():
    found = parsed(FAULTY)
    causes = [x.text for x in found.all("h3")]
    assert causes == [f"{i}. {f.cause}" for i, f in enumerate(diagnose(FAULTY), 1)]
    assert len(causes) > 1
    text = told(found)
    assert "64 fresh episodes; 64 episodes of random actions." in text
    assert "batch-below-noise-scale, baseline-hurts" in text
    assert "needs the gradients of fresh episodes" in text


def test_returns_stand_beside_each_other_and_chance_is_called_so():
    rows = parsed(HEALTHY).rows("Mean returns of whole episodes")
    assert rows == [
        ["now: 64 fresh episodes", "100", "[89.93, 110.1]", ""],
        ["by the mode: 64 episodes, 3 stopped without an end", "110", "[102.4, 117.6]",
         "+10 [−2.476, 22.48], not significant"],
        ["of random actions: 64 episodes", "22", "[18.98, 25.02]", "−78 [−88.48, −67.52]"],
        ["best in training: at update 20 of 20", "100", "", rows[3][3]],
    ]  # fmt: skip
    assert rows[3][3].endswith("not significant")


def test_the_curve_is_drawn_and_told():
    found = parsed(FAULTY)
    curve = found.one("svg")
    assert curve.attributes["role"] == "img"
    assert curve.attributes["aria-label"] == (
        "Mean return against environment steps: 20 at 2,048, and 100 at 40,960."
    )
    fallen = np.linspace(20, 100, UPDATES)
    fallen[-1] = 30
    lost = examination(metrics={"return_mean": fallen, "env_steps": STEPS})
    assert "20 at 2,048, 95.79 at its best at 38,912, and 30 at 40,960." in told(parsed(lost))
    points = np.array(
        [p.split(",") for p in (found.one("polyline").attributes["points"] or "").split()], float
    )
    assert len(points) == UPDATES
    # a straight rise: to the right and, on a screen, upwards, by equal steps
    np.testing.assert_allclose(np.diff(points, axis=0), [np.diff(points, axis=0)[0]] * 19, atol=0.2)
    assert (np.diff(points, axis=0)[0] * [1, -1] > 0).all()
    assert "dashed line is the mean return of random actions, 22." in told(found)


def test_a_return_that_is_not_known_is_a_gap_in_the_curve():
    returns = np.linspace(20, 100, UPDATES)
    returns[[0, 5, 7]] = np.nan
    found = parsed(examination(metrics={"return_mean": returns, "env_steps": STEPS}))
    lengths = [len((x.attributes["points"] or "").split()) for x in found.all("polyline")]
    assert lengths == [4, 12]
    assert len(found.all("circle")) == 1
    assert "nan" not in found.page.split("</style>")[1].lower().replace("finance", "")
    assert "For 3 of 20 updates no return is known." in told(found)


LOST = np.full(UPDATES, np.nan)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metrics": {"return_mean": LOST, "episodes": np.zeros(UPDATES)}},
         "no episode ended in training."),
        ({"metrics": {"return_mean": LOST}}, "no mean return of training is a number."),
        ({"metrics": {"return_mean": LOST}, "failure": Failure("a reward is NaN", 2048, "reward")},
         "training stopped before an episode ended whose return is a number."),
    ],
)  # fmt: skip
def test_without_a_return_the_page_says_why_there_is_no_curve(changes, why):
    found = parsed(examination(**changes))
    assert not found.all("svg")
    assert f"There is no learning curve: {why}" in told(found)
    assert ("It stopped by itself: a reward is NaN" in told(found)) == ("failure" in changes)


def test_nothing_that_is_known_is_said_to_be_so():
    text = told(parsed(NOTHING, findings=None))
    assert "There is no learning curve: no update of training is known." in text
    assert "nothing is known of it" in text
    assert "Verdict" not in text


def test_the_log_of_another_library_without_settings(log):
    rows = sb3_rows(approx_kl=0.5)
    rows = [{k: v for k, v in row.items() if k != "train/learning_rate"} for row in rows]
    x = log(rows)
    x = replace(x, settings=dict.fromkeys(x.settings))
    found = parsed(x, "PPO_1")
    text = told(found)
    assert "The log says none of the run's settings." in text
    assert "24,576 environment steps, 12 rows of the log" in text
    assert "Stable-Baselines3 (PPO)" in text
    assert "Environment not in the log" in text
    assert (
        "Mean return: 36.36 in the first rows, 200 at its best, 183.6 in the last rows: it rose."
        in text
    )
    assert len(found.all("svg")) == 1
    assert "actions-saturated" in text
    assert not found.all("details") or all("settings" not in x.text for x in found.all("summary"))


def test_a_log_names_the_settings_that_it_says_and_its_rows_where_it_has_no_steps(log):
    x = log(sb3_rows(learning_rate=0.03))
    x = replace(x, settings={**x.settings, "discount": 0.5})
    rows = parsed(x).rows("Settings that the log says, or that were told")
    assert ["gamma", "0.5"] in rows
    bare = replace(x, metrics={"return_mean": np.arange(4.0)})
    assert "Mean return against rows of the log: 0 at 1, and 3 at 4." in told(parsed(bare))


def test_every_term_is_explained_where_it_first_stands_and_only_there():
    found = parsed(FAULTY)
    explained = [x.text for x in found.all("dt") if "dl" in x.inside and x.inside[-1] == "div"]
    assert {"KL", "Nat", "Return", "95 % interval", "Step size"} <= set(explained)
    assert len(explained) == len(set(explained))
    body = found.page.split("</header>")[1]
    for term in TERMS:
        first = re.search(term.pattern, re.sub(r"<[^>]*>", " ", re.sub(
            r'<dl class="words">.*?</dl>|<code>.*?</code>|<table>.*?</table>', "", body,
            flags=re.DOTALL)))  # fmt: skip
        assert (first is None) or term.name in explained, term.name
    # the explanation follows within the block: no other heading of a part is in between
    kl = body.index("<dt>KL</dt>")
    assert "<h2" not in body[body.index("KL(") : kl]
    assert all(term.meaning.endswith(".") and len(term.meaning) < 130 for term in TERMS)
