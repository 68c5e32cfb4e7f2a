"""The report of a diagnosis: one page that needs nothing else, its pictures, and its numbers."""

import html
import json
import re
import struct
from dataclasses import replace
from io import BytesIO

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
from policygrad.figures import measurements as plots
from policygrad.figures.page import figures_of, page, write_report
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
    numbers = json.loads(others[0].read_text())
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
    assert '<p class="healthy"><b>Healthy, as far as was looked at' in text
    assert "of random actions: 22 [18.98, 25.02], of 64 episodes" in text
    assert "No rule looks at whether a better return is possible" in text
    data = json.loads(numbers.read_text())
    assert data["healthy"] is True
    assert data["standing"]["above_random"]["value"] == 78


def test_a_folder_that_cannot_be_made(examination, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write --report"):
        write_report(tmp_path / "file" / "a", "x", [], examination)


def test_pictures_survive_what_is_not_known(examination):
    nothing = diagnostics.noise_of_gradients(np.zeros((32, 3)))
    zero = np.zeros(10)
    rows = np.random.default_rng(0).normal(size=(32, 3))
    one = diagnostics.compare_gradients({"a": rows}, reference="a", batch_episodes=2)
    for figure in (
        plots.cosine_against_episodes(nothing, float("nan")),
        plots.baseline_against_return(zero, zero),
        plots.bias_variance_plane(one),
    ):
        drawn = BytesIO()
        figure.savefig(drawn, format="png")
        assert drawn.getvalue().startswith(b"\x89PNG")
        assert figure.axes[0].get_title(loc="left")


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
    assert "<td>noise of the gradient between groups</td>" in text
    assert "[0.25, 1.75]" in text
    assert (tmp_path / "variance_by_group_size.png").exists()
    axes = figures_of(found)["variance_by_group_size"].axes[0]
    curve, now, best = (line.get_xydata() for line in axes.get_lines())
    # of 8 episodes: (1 + 12/k) / (8/k) = (k + 12) / 8
    np.testing.assert_allclose(curve[:, 1], (curve[:, 0] + 12) / 8)
    assert (now.tolist(), best.tolist()) == ([[4, 2.0]], [[2, 1.75]])
    unknown = replace(found, settings={"batch_episodes": "adaptive"})
    assert "variance_by_group_size" not in figures_of(unknown)


def test_page_is_one_well_formed_document(examination):
    text = page("runs/a<b", [], examination, {})
    assert text.count("<title>") == text.count("</title>") == 1
    assert "<title>runs/a&lt;b</title>" in text


def names_of(comparison):
    """Estimator -> how its name is written, and how high, from the bottom to the top."""
    texts = plots.bias_variance_plane(comparison).axes[0].texts
    return {text.get_text(): text.get_position()[1] for text in texts}


def test_names_in_the_plane_lie_apart_in_the_order_of_the_variances():
    rng = np.random.default_rng(0)
    exact, noise = rng.normal(1.0, 1.0, (200, 5)), rng.normal(size=(200, 5))
    rows = {f"e{i}": exact + size * noise for i, size in enumerate((30, 3.2, 3.1, 3.0, 0.1))}
    found = diagnostics.compare_gradients(rows, reference="e0", batch_episodes=4)
    places = {text.split()[0]: place for text, place in names_of(found).items()}
    variances = {name: found.estimators[name].variance.value for name in rows}
    order = sorted(rows, key=variances.__getitem__)
    assert sorted(rows, key=places.__getitem__) == order
    heights = np.sort(list(places.values()))
    apart = np.diff(heights)
    assert apart.min() > 0.03
    assert heights[0] > -0.1
    assert heights[-1] < 1.1
    assert apart.max() > 3 * apart.min()  # only those that would touch are moved


def test_the_plane_says_where_the_least_error_is_open():
    rng = np.random.default_rng(0)
    exact, noise = rng.normal(3.0, 0.1, (400, 5)), rng.normal(size=(400, 5))
    rows = {"exact": exact, "noisy": exact + 5 * noise, "shifted": exact + 4.0}
    sure = diagnostics.compare_gradients(rows, reference="exact", batch_episodes=4)
    assert "exact  ← least error" in names_of(sure)
    alike = {"one": exact + noise, "other": exact + noise[::-1]}
    open_ = diagnostics.compare_gradients(alike, reference="one", batch_episodes=4)
    assert any(text.endswith("← least error, not surely") for text in names_of(open_))
