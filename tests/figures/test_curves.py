import json

import numpy as np
import pytest

from policygrad import plots
from policygrad.core.errors import RunError
from policygrad.figures.curves import learning_curve, save_figure, series
from policygrad.figures.style import steps_label
from policygrad.runs import RunDirectory
from tests.slow import params
from tests.worlds import python


def run_with(path, rows):
    path.mkdir()
    RunDirectory(path).write_config({})
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def rows(offset=0.0):
    return [
        {
            "update": i + 1,
            "env_steps": 32 * (i + 1),
            "return_mean": None if i == 0 else 10.0 * i + offset,
            "kl": 0.01,
            "entropy": 0.6,
            "explained_variance_before": -50.0 if i == 1 else 0.5,
        }
        for i in range(5)
    ]


def test_panels_show_what_the_metrics_say(tmp_path):
    figure = learning_curve([run_with(tmp_path / "a", rows())])
    axes = figure.axes
    assert [axis.get_title(loc="left") for axis in axes] == [title for _, title in plots.PANELS]
    (line,) = axes[0].get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [64, 96, 128, 160])
    np.testing.assert_array_equal(line.get_ydata(), [10, 20, 30, 40])
    low, high = axes[3].get_ylim()
    assert -1.1 <= low < high <= 1.1


def test_runs_are_told_apart(tmp_path):
    paths = [run_with(tmp_path / name, rows(10.0 * i)) for i, name in enumerate("abc")]
    axis = learning_curve(paths).axes[0]
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["a", "b", "c"]
    assert len({line.get_color() for line in axis.get_lines()}) == 3
    named = learning_curve(paths, ["x", "y", "z"]).axes[0]
    assert [t.get_text() for t in named.get_legend().get_texts()] == ["x", "y", "z"]


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.pdf"])
def test_pictures_are_written(tmp_path, name):
    path = tmp_path / name
    save_figure(learning_curve([run_with(tmp_path / "a", rows())]), path)
    assert path.stat().st_size > 3000


def test_learning_curve_of_a_run_is_a_picture_with_a_curve(trained):
    from matplotlib.image import imread

    image = imread(trained.path / "learning_curve.png")
    assert image.shape[0] > 400
    assert image.shape[1] > 800
    assert np.unique(image.reshape(-1, image.shape[2]), axis=0).shape[0] > 20


def test_run_without_metrics_yet_is_an_empty_picture(tmp_path):
    figure = learning_curve([run_with(tmp_path / "a", [])])
    save_figure(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_run_that_is_missing(tmp_path):
    with pytest.raises(RunError, match="no run at"):
        learning_curve([tmp_path])


def test_series_leaves_out_what_is_missing():
    found = series([{"env_steps": 1, "a": 2}, {"env_steps": 2, "a": None}, {"env_steps": 3}], "a")
    np.testing.assert_array_equal(found, [[1], [2]])


@pytest.mark.parametrize(
    ("x", "text"), [(0, "0"), (500, "500"), (1500, "1.5k"), (2e6, "2M"), (250_000, "250k")]
)
def test_steps_are_labelled_shortly(x, text):
    assert steps_label(x) == text


@pytest.mark.parametrize(
    "backend",
    params(
        [
            "nonsense",
            "module://no.such.package",
            "TkAgg",
            "",
            "Agg",
            "module://matplotlib_inline.x",
        ],
        {"nonsense", "Agg", "module://matplotlib_inline.x"},
    ),
)
def test_case_04_an_inherited_backend_that_does_not_exist_is_no_hindrance(
    tmp_path, monkeypatch, backend
):
    monkeypatch.setenv("MPLBACKEND", backend)
    code = (
        "import os\nfrom policygrad.figures import curves, style\ncurves.preload()\n"
        f"curves.save_figure(style.new_figure()[0], {str(tmp_path / 'a.png')!r})\n"
        f"assert os.environ['MPLBACKEND'] == {backend!r}\n"
        "import matplotlib\nprint(dict.__getitem__(matplotlib.rcParams, 'backend'))"
    )
    done = python("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").exists()
    if backend in ("TkAgg", "Agg") or backend.startswith("module"):
        assert done.stdout.split()[-1].lower() == backend.lower()  # the user's own pictures use it
