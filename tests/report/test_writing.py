"""The report of a diagnosis: one page that needs nothing else, its pictures, and its numbers."""

import html
import json
import re
import struct
from dataclasses import replace

import jax
import numpy as np
import pytest

from policygrad import baselines, diagnostics, estimators
from policygrad.core.errors import UserError
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.groups import NoiseInGroups
from policygrad.diagnostics.groups_shown import lines_of
from policygrad.diagnostics.intervals import Measured
from policygrad.report.pictures import figures_of
from policygrad.report.writing import write_report
from policygrad.tabular import gallery
from tests.diagnostics.sampling import sampler
from tests.diagnostics.test_clean_bill import RISEN

FINDING = Finding(
    "a-rule", "Too <large> & loud.", "It was 3.", {"x": 3.0}, "Train with --less.", 0.5, "A. Uthor"
)


@pytest.fixture(scope="module")
def examination():
    task = gallery.chain()
    episodes = sampler(task, 64)(jax.random.key(0))
    table = baselines.table(np.linspace(-1, 1, task.mdp.states))
    estimator = estimators.reward_to_go(baseline=table)
    state = estimator.init(jax.random.key(0), 0)
    args = task.policy, estimator, state, episodes
    candidates = {"in use": (estimator, state)}
    rng = np.random.default_rng(0)
    return Examination(
        env="chain",
        settings={"batch_episodes": 8},
        passed_as_objects=(),
        metrics={
            "env_steps": np.arange(1.0, 6.0),
            "signal_to_noise": np.array([np.nan, 0.5, 0.4, 0.3, 0.0]),
            "noise_scale": np.array([np.nan, 3, 4, 5, np.nan]),
        },
        noise=diagnostics.gradient_noise(*args),
        comparison=diagnostics.compare_estimators(
            task.policy, candidates, episodes, batch_episodes=8
        ),
        decomposition=diagnostics.decompose_variance(*args),
        predicted_returns=(rng.normal(size=200), rng.normal(size=200)),
        notes=("the weather",),
    )


def test_page_pictures_and_numbers(examination, tmp_path):
    page, *others = write_report(tmp_path / "a" / "b", "chain <1>", [FINDING], examination)
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 6
    assert "Too &lt;large&gt; &amp; loud." in text
    assert "chain &lt;1&gt;" in text
    assert "the weather" in text
    assert "Healthy" not in text
    # nothing is fetched and nothing runs
    assert not re.search(r"<script|<link|https?://|url\(|@import", text)
    alternatives = re.findall(r'<img alt="([^"]+)"', text)
    assert len(set(alternatives)) == 6
    assert all(len(told.split()) > 8 for told in alternatives)
    numbers = json.loads(others[0].read_text())
    assert set(numbers["versions"]) == {"policygrad", "jax", "numpy"}
    assert numbers["findings"][0]["name"] == "a-rule"
    assert numbers["examination"]["decomposition"]["total"]["variance"]["value"] > 0
    assert "predicted_returns" not in numbers["examination"]
    pictures = [path for path in others if path.suffix == ".png"]
    assert len(pictures) == 6
    for path in pictures:
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert min(width, height) > 300


def test_nothing_found_and_nothing_measured_is_no_clean_bill(tmp_path):
    empty = Examination(env=None, settings={}, passed_as_objects=(), metrics={})
    stale, own = tmp_path / "variance_by_step.png", tmp_path / "mine.png"
    for file in (stale, own):
        file.write_bytes(b"of another run")
    written = write_report(tmp_path, "a run", [], empty)
    assert [path.name for path in written] == ["report.html", "report.json"]
    assert own.exists()
    assert not stale.exists()
    text = written[0].read_text()
    assert "Healthy" not in text
    assert "this is no clean bill" in text
    assert "The return is not known: no fresh episodes could be looked at." in text
    assert json.loads(written[1].read_text())["healthy"] is None


def test_a_healthy_run_is_told_beside_what(tmp_path):
    page, numbers = write_report(tmp_path, "a run", [], replace(RISEN, noise=None))
    text = page.read_text()
    assert '<div class="verdict healthy"><p><b>Healthy, as far as was looked at' in text
    assert '<td class="number">[18.98, 25.02]</td>' in text
    assert "No rule looks at whether a better return is possible" in text
    data = json.loads(numbers.read_text())
    assert data["healthy"] is True
    assert data["standing"]["above_random"]["value"] == 78


def test_a_folder_that_cannot_be_made(examination, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write --report"):
        write_report(tmp_path / "file" / "a", "x", [], examination)


def test_noise_scale_over_training_shows_what_was_monitored(examination):
    axes = figures_of(examination)["noise_scale_over_training"].axes[0]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert lines["noise scale B"] == [[2, 3], [3, 4], [4, 5]]
    assert lines["batch in use"] == [[x, 1] for x in range(1, 6)]
    assert [x for x, _ in lines["too large for the batch to measure"]] == [5]
    bare = replace(examination, metrics={"env_steps": np.arange(5.0)})
    assert "noise_scale_over_training" not in figures_of(bare)


GROUPS = NoiseInGroups(
    starts=32, group_size=4, weighed_together=2, squared_norm=0.1,
    between=Measured(1.0, 0.25, 1.75), within=Measured(12.0, 9.0, 16.0),
    share_between=Measured(1 / 13, 0.03, 0.15), even=Measured(12.0, 5.0, 30.0),
)  # fmt: skip


def test_the_noise_in_groups_is_told_and_drawn(examination, tmp_path):
    found = replace(examination, groups=GROUPS, noise=None, comparison=None, decomposition=None)
    told, *_ = write_report(tmp_path, "a run", [], found)
    text = told.read_text()
    for line in lines_of(GROUPS, 8):
        assert html.escape(line) in text
    assert ">noise of the gradient between groups</th>" in text
    assert "[0.25, 1.75]" in text
    assert (tmp_path / "variance_by_group_size.png").exists()
    axes = figures_of(found)["variance_by_group_size"].axes[0]
    curve, now, best = (line.get_xydata() for line in axes.get_lines())
    # of 8 episodes: (1 + 12/k) / (8/k) = (k + 12) / 8
    np.testing.assert_allclose(curve[:, 1], (curve[:, 0] + 12) / 8)
    assert (now.tolist(), best.tolist()) == ([[4, 2.0]], [[2, 1.75]])
    unknown = replace(found, settings={"batch_episodes": "adaptive"})
    assert "variance_by_group_size" not in figures_of(unknown)
