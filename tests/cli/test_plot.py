"""`policygrad plot` over seeds."""

import json
import shutil

import numpy as np
import pytest

from policygrad.core.errors import UserError
from policygrad.figures.comparing import comparison, numbers
from policygrad.figures.groups import Curve, check_metric, grouped
from policygrad.maths.intervals import iqm_interval
from policygrad.runs import RunDirectory
from tests.cli.test_commands import command, parsed, refused, run_path  # noqa: F401

# ruff: noqa: F811


def write(
    path,
    seed=0,
    env="CartPole-v1",
    offset=0.0,
    every=32,
    count=6,
    infos=False,
    saved=None,
    **settings,
):
    """A run's directory with a config and metrics, made by hand."""
    path.mkdir(parents=True)
    config = {"algorithm": "vanilla", "seed": seed, "step_size": 1e-3, **settings}
    told = {"env": env, "env_kwargs": {}, "config": config}
    RunDirectory(path).write_config(told | (saved or {}))
    lines = []
    for i in range(1, count + 1):
        row = {"update": i, "env_steps": every * i, "seconds": 0.5 * i, "kl": 0.01 * i}
        row["return_mean"] = None if i == 1 else 10.0 * i + offset
        if infos:
            row["info/success"] = i / count
        lines.append(json.dumps(row))
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return path


def labels(paths, **more):
    return [group.label for group in grouped([Curve.read(p) for p in paths], **more)]


def test_runs_of_equal_settings_are_a_group(tmp_path):
    paths = [write(tmp_path / f"a{i}", seed=i, offset=i) for i in range(5)]
    paths += [write(tmp_path / f"b{i}", seed=i, step_size=1e-4) for i in range(3)]
    groups = grouped([Curve.read(p) for p in paths])
    assert [(g.label, len(g.curves)) for g in groups] == [
        ("step-size 0.001", 5),
        ("step-size 0.0001", 3),
    ]
    band = groups[0].band("env_steps", "return_mean")
    assert (band.x[0], band.x[-1]) == (64, 192)
    middle, interval = iqm_interval([20.0 + i for i in range(5)], 2_000)
    assert band.middle[0] == middle
    assert (band.low[0], band.high[0]) == interval
    assert np.all(band.low <= band.middle)
    assert np.all(band.middle <= band.high)


def test_the_grid_is_where_all_seeds_are(tmp_path):
    paths = [
        write(tmp_path / "a", 0),
        write(tmp_path / "b", 1, every=16),
        write(tmp_path / "c", 2, count=4),
    ]
    (group,) = grouped([Curve.read(p) for p in paths])
    band = group.band("env_steps", "return_mean")
    assert (band.x[0], band.x[-1]) == (64, 96)
    alone = grouped([Curve.read(paths[0])])[0].band("seconds", "return_mean")
    np.testing.assert_array_equal(alone.x, [1, 1.5, 2, 2.5, 3])
    np.testing.assert_array_equal(alone.middle, alone.low)


def test_labels_say_what_differs(tmp_path):
    a = write(tmp_path / "a", checkpoint_seconds=3.0)
    b = write(tmp_path / "b", algorithm="ppo", clip_ratio=0.2, checkpoint_seconds=9.0)
    assert labels([a, b]) == ["vanilla", "ppo, clip-ratio 0.2"]
    assert labels([a, b], usual=lambda s: {"clip_ratio": 0.2}) == ["vanilla", "ppo"]
    c = write(tmp_path / "c", env="Acrobot-v1")
    assert labels([a, c]) == ["a", "c"]
    assert labels([a]) == ["a"]
    d = write(tmp_path / "d", seed=1, env="Acrobot-v1", algorithm="ppo", clip_ratio=0.2)
    assert labels([a, b, d], usual=lambda s: {"clip_ratio": 0.2}) == ["vanilla", "ppo", "ppo"]


def test_one_run_twice_is_refused(tmp_path):
    a, b = write(tmp_path / "a"), write(tmp_path / "b")
    with pytest.raises(UserError, match="the same settings and the same seed: they are one run"):
        labels([a, b])


OPTIMISER = {"objects": ["optimiser"]}
CHAIN = {"env": None, "objects": ["env"], "values": {"env": "worlds:Chain"}}
MINE = {"objects": ["algorithm"], "values": {"algorithm": {"class": "Mine", "rate": 0.5}}}
ENTROPY = {"env_steps": 64, "settings": {"entropy_coefficient": 0.1}}


@pytest.mark.parametrize(
    ("a", "b", "sizes"),
    [
        (OPTIMISER, OPTIMISER, [1, 1]),
        ({"env": None, "objects": ["env"]}, {"env": None, "objects": ["env"]}, [1, 1]),
        ({"objects": ["engine"]}, {"objects": ["engine"]}, [1, 1]),
        ({"objects": ["policy"]}, {"objects": ["policy"]}, [1, 1]),
        ({"begins_from_a_policy": True}, {"begins_from_a_policy": True}, [1, 1]),
        (CHAIN, CHAIN, [2]),
        (CHAIN, CHAIN | {"values": {"env": "worlds:Other"}}, [1, 1]),
        (MINE, MINE, [2]),
        (MINE, MINE | {"values": {"algorithm": {"class": "Mine", "rate": 0.6}}}, [1, 1]),
        (MINE, MINE | {"values": {"algorithm": {"class": "Mine", "rate": "function"}}}, [1, 1]),
        ({"schedules": ["clip_ratio"]}, {"schedules": ["clip_ratio"]}, [1, 1]),
        ({"schedules": ["clip_ratio"]}, {}, [1, 1]),
        ({"changes": [ENTROPY]}, {}, [1, 1]),
        ({"changes": [ENTROPY]}, {"changes": [ENTROPY]}, [2]),
        ({"changes": [{"env_steps": 9, "settings": {"keep_checkpoints": 9}}]}, {}, [2]),
        ({"env_kwargs": {"step_size": 0.001}}, {}, [1, 1]),
        ({"env_kwargs": {"step_size": 5}}, {"env_kwargs": {"step_size": 6}}, [1, 1]),
        ({"config": {"processes": 3, "step_timeout": 9.0}}, {"config": {"processes": 1}}, [2]),
    ],
)
def test_only_runs_that_are_known_to_be_alike_are_a_group(tmp_path, a, b, sizes):
    for i, saved in enumerate((a, b)):
        saved = saved | {"config": {"seed": i} | saved.get("config", {})}
        write(tmp_path / f"a{i}", saved=saved)
    groups = grouped([Curve.read(tmp_path / f"a{i}") for i in (0, 1)])
    assert [len(group.curves) for group in groups] == sizes
    assert len({group.label for group in groups}) == len(sizes)


def test_runs_with_objects_are_never_said_to_be_one_run(tmp_path):
    paths = [write(tmp_path / name, saved=OPTIMISER) for name in "ab"]
    assert labels(paths) == ["a", "b"]


def test_the_seeds_of_one_call_are_a_group_whatever_they_were_given(tmp_path):
    paths = [write(tmp_path / "many" / f"seed-{i}", i, saved=OPTIMISER) for i in range(3)]
    paths += [write(tmp_path / "other" / f"seed-{i}", i, saved=OPTIMISER) for i in range(2)]
    assert labels(paths) == ["many", "other"]


def test_a_metric_that_is_not_there_lists_what_there_is(tmp_path):
    curves = [Curve.read(write(tmp_path / "a")), Curve.read(write(tmp_path / "b", 1, infos=True))]
    with pytest.raises(
        UserError, match=r"called 'kll'; did you mean kl\?; there are env_steps, info/success, kl"
    ):
        check_metric(curves, "kll")
    assert check_metric(curves, "info/success") == [curves[0]]


def test_panels_lines_bands_and_legend(tmp_path):
    paths = [write(tmp_path / f"a{i}", i, offset=3.0 * i) for i in range(4)]
    paths += [write(tmp_path / f"b{i}", i, env="Acrobot-v1", step_size=0.5) for i in range(2)]
    figure = comparison(grouped([Curve.read(p) for p in paths]), y=["return_mean", "kl"])
    assert len(figure.axes) == 4
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["CartPole-v1", "Acrobot-v1", "", ""]
    first = figure.axes[0]
    assert len(first.get_lines()) == 5  # four runs and their mean
    assert len(first.collections) == 1  # the band
    assert first.get_ylabel() == "mean return, last 100 episodes"
    assert figure.axes[2].get_xlabel() == "environment steps"
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [
        "step-size 0.001 (4 seeds)", "step-size 0.5 (2 seeds)",
    ]  # fmt: skip
    assert "interquartile mean" in legend.get_title().get_text()
    figure.draw_without_rendering()
    below = legend.get_window_extent().ymax
    assert all(below <= axes.get_window_extent().ymin for axes in figure.axes)


def test_a_long_legend_stays_below_the_panels(tmp_path):
    names = {"env_of_a_very_long_name_indeed": "x" * 60, "another_setting": "y" * 60}
    paths = [
        write(tmp_path / f"a{i}", step_size=0.1 * i, **{k: v + str(i) for k, v in names.items()})
        for i in range(1, 11)
    ]
    figure = comparison(grouped([Curve.read(p) for p in paths]))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box, axes = legend.get_window_extent(), figure.axes[0].get_window_extent()
    assert box.ymax <= axes.ymin
    assert axes.height > 100
    assert box.xmin >= 0
    assert box.xmax <= figure.bbox.width
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(styles) == 10


def test_numbers_are_those_that_are_drawn(tmp_path):
    groups = grouped([Curve.read(write(tmp_path / f"a{i}", i, offset=i)) for i in range(3)])
    (data,) = numbers(groups, x="steps", y=["return_mean"])
    assert data["seeds"] == [0, 1, 2]
    assert len(data["x"]) == len(data["middle"]) == len(data["low"]) == len(data["high"])
    assert numbers(groups, x="steps", y=["nothing"])[0].keys() == {
        "metric",
        "env",
        "label",
        "runs",
        "seeds",
        "without",
    }


def test_runs_without_what_is_drawn_are_not_counted(tmp_path):
    paths = [write(tmp_path / f"a{i}", i, infos=i < 2) for i in range(5)]
    paths += [write(tmp_path / f"b{i}", i, infos=True, step_size=0.5) for i in range(3)]
    groups = grouped([Curve.read(p) for p in paths])

    def legend(*metrics):
        texts = comparison(groups, y=metrics).legends[0].get_texts()
        return [text.get_text().replace("\n", " ") for text in texts]

    assert legend("info/success") == [
        "step-size 0.001 (2 of 5 seeds)", "step-size 0.5 (3 seeds)",
    ]  # fmt: skip
    assert legend("return_mean", "info/success") == [
        "step-size 0.001 (return_mean: 5 seeds, info/success: 2 of 5 seeds)",
        "step-size 0.5 (3 seeds)",
    ]
    drawn, whole = numbers(groups, x="steps", y=["info/success"])
    assert (drawn["runs"], drawn["seeds"]) == ([str(p) for p in paths[:2]], [0, 1])
    assert drawn["without"] == [str(p) for p in paths[2:5]]
    assert (whole["seeds"], whole["without"]) == ([0, 1, 2], [])


# ----- the command


def test_plot_of_seeds(command, tmp_path):
    for i in range(3):
        write(tmp_path / f"s/seed-{i}", i, offset=i, infos=True)
    code, out, _ = command(
        "plot", "s", "--x", "wall-time", "--y", "return_mean,info/success", "--json"
    )
    data = parsed(out)
    assert code == 0
    assert [d["metric"] for d in data["drawn"]] == ["return_mean", "info/success"]
    assert data["drawn"][0]["seeds"] == [0, 1, 2]
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = command("plot", "s", "s/seed-1", "s/../s/seed-1", "--json")
    assert len(parsed(out)["runs"]) == 3


def test_a_damaged_seed_is_named_and_left_out(command, tmp_path):
    for i in range(3):
        write(tmp_path / f"s/seed-{i}", i)
    (tmp_path / "s/seed-1/metrics.jsonl").write_text('{"a": \n{}\n')
    code, out, err = command("plot", "s")
    assert (code, out) == (1, "learning_curves.png\n")
    assert "seed-1" in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["a", "--y", "nonsense"], "no run has a metric called 'nonsense'; there are env_steps"),
        (["a", "--out", "nowhere/a.png"], "cannot write --out nowhere/a.png"),
        (["a", "--out", "a.nonsense"], "cannot write --out a.nonsense"),
        (["nowhere"], "no run at nowhere"),
        (["a", "b"], "they are one run, not two"),
    ],
)
def test_mistakes_are_one_line(refused, tmp_path, argv, words):
    write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert words in refused("plot", *argv)


def test_a_metric_that_is_no_number_is_named(refused, tmp_path):
    path = write(tmp_path / "a")
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    rows[2]["kl"] = "high"
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    line = refused("plot", "a", "--y", "kl")
    assert "a" in line
    assert "high" in line
