"""What is read from files of each kind, and what is said of files that are damaged."""

import json
import pickle
import zipfile

import numpy as np
import pytest

from policygrad.core.errors import UserError
from policygrad.logs import is_log, read
from policygrad.logs.readers import settings_in_text
from policygrad.logs.table import Column
from tests.logs.written import cleanrl, events, lines, progress, sb3_rows


def test_a_csv_keeps_what_is_missing_apart_from_nan(tmp_path):
    rows = [{"a": 1.0}, {"a": float("nan"), "b": 2.0}, {"b": float("inf")}]
    table = read(progress(tmp_path, rows))
    np.testing.assert_array_equal(table.columns["a"].steps, [0, 1])
    np.testing.assert_array_equal(table.columns["a"].values, [1, np.nan])
    np.testing.assert_array_equal(table.columns["b"].values, [2, np.inf])


def test_json_lines_are_flattened_and_a_last_line_may_be_cut_off(tmp_path):
    path = lines(
        tmp_path / "result.json", [{"a": {"b": 1, "flag": True}, "word": "x"}, {"a": {"b": None}}]
    )
    with path.open("a") as file:
        file.write('{"a": {"b"')
    table = read(path)
    assert set(table.columns) == {"a/b"}
    np.testing.assert_array_equal(table.columns["a/b"].values, [1])


def test_events_are_read_with_their_steps_and_texts(tmp_path):
    table = read(events(tmp_path / "a", {"x": [(5, 1.0), (9, float("nan"))]}, {"note": "|p|q|"}))
    np.testing.assert_array_equal(table.columns["x"].steps, [5, 9])
    np.testing.assert_array_equal(table.columns["x"].values, [1, np.nan])
    assert "|p|q|" in next(iter(table.texts.values()))


def test_a_file_of_events_that_is_cut_off_gives_what_is_whole(tmp_path):
    folder = events(tmp_path / "a", {"x": [(i, float(i)) for i in range(50)]})
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    assert 40 < len(read(folder).columns["x"].values) < 50


def test_monitors_are_in_the_order_of_the_ends_of_episodes(tmp_path):
    for number, text in enumerate(("1,20,0.1\n2,10,0.3\n", "5,4,0.2\n7,3")):
        (tmp_path / f"{number}.monitor.csv").write_text(f'#{{"env_id": "A"}}\nr,l,t\n{text}')
    table = read(tmp_path)
    np.testing.assert_array_equal(table.columns["monitor/r"].values, [1, 5, 2])
    np.testing.assert_array_equal(table.columns["monitor/l"].steps, [20, 24, 34])
    assert table.monitors == 2


def test_a_monitor_that_a_second_run_appends_to_keeps_the_order_of_its_lines(tmp_path):
    """Monitor(…, override_existing=False) counts its seconds from 0 again."""
    lines_of_two_runs = "1,10,5.0\n2,10,9.0\n3,10,1.0\n4,10,6.0\n5,10,0.5\n"
    (tmp_path / "monitor.csv").write_text(f"#{{}}\nr,l,t\n{lines_of_two_runs}")
    table = read(tmp_path / "monitor.csv")
    np.testing.assert_array_equal(table.columns["monitor/r"].values, [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("starts", "order"),
    [(('{"t_start": 1000.0}', '{"t_start": 500.0}'), [3, 4, 1, 2]),
     (('{"t_start": 1000.0}', "{}"), [1, 3, 2, 4]),  # of one, nothing is known
     (('{"t_start": "x"}', "no JSON"), [1, 3, 2, 4])],
)  # fmt: skip
def test_monitors_count_their_seconds_from_when_they_were_begun(tmp_path, starts, order):
    for start, text in zip(starts, ("1,9,1\n2,9,3\n", "3,9,2\n4,9,4\n"), strict=True):
        (tmp_path / f"{text[0]}.monitor.csv").write_text(f"#{start}\nr,l,t\n{text}")
    np.testing.assert_array_equal(read(tmp_path).columns["monitor/r"].values, order)


def written(folder, name, pairs):
    """A file of events of this name, in a folder that may hold some."""
    events(folder / name, {"x": pairs, "y": pairs[1:]})
    (path,) = (folder / name).iterdir()
    path.rename(folder / f"events.out.tfevents.{name}")
    (folder / name).rmdir()


def test_files_of_events_that_follow_one_another_are_one_run(tmp_path):
    written(tmp_path, "1", [(i, 1.0) for i in range(1, 11)])
    written(tmp_path, "2", [(i, 2.0) for i in range(11, 16)])
    table = read(tmp_path)
    np.testing.assert_array_equal(table.columns["x"].steps, range(1, 16))
    assert len(table.files) == 2
    assert table.notes == ()


def test_a_run_that_goes_back_to_a_checkpoint_is_read_from_there_on_and_it_is_said(tmp_path):
    written(tmp_path, "1", [(i, 1.0) for i in range(1, 11)])
    written(tmp_path, "2", [(i, 2.0) for i in range(8, 16)])
    table = read(tmp_path)
    np.testing.assert_array_equal(table.columns["x"].steps, range(1, 16))
    np.testing.assert_array_equal(table.columns["x"].values, [1.0] * 7 + [2.0] * 8)
    assert table.notes == ("events.out.tfevents.2 goes back to step 8; it was read from there on",)


def test_two_runs_over_the_same_steps_in_one_folder_are_several_logs(tmp_path):
    written(tmp_path, "1", [(i, 1.0) for i in range(1, 11)])
    written(tmp_path, "2", [(i, 2.0) for i in range(1, 4)])
    with pytest.raises(UserError, match=r"several logs.*tfevents\.1 and events\.out\.tfevents\.2"):
        read(tmp_path)
    assert len(read(tmp_path / "events.out.tfevents.2").columns["x"].values) == 3


def test_steps_that_begin_anew_in_one_file_of_events_are_counted_on(tmp_path):
    pairs = [(i, 1.0) for i in (1, 2, 4, 3, 5)] + [(i, 2.0) for i in (1, 2)]
    table = read(events(tmp_path / "a", {"x": pairs}))
    np.testing.assert_array_equal(table.columns["x"].values, [1.0] * 5 + [2.0] * 2)
    assert "the steps begin anew" in table.notes[0]
    table = read(events(tmp_path / "b", {"x": pairs[:5]}))  # written out of order
    np.testing.assert_array_equal(table.columns["x"].steps, [1, 2, 3, 4, 5])
    assert table.notes == ()


def test_settings_beside_a_log_and_in_its_text(tmp_path):
    lines(tmp_path / "result.json", [{"episode_reward_mean": 1.0}] * 2)
    (tmp_path / "params.json").write_text(json.dumps({"gamma": 0.9, "env": "A", "model": {"x": 1}}))
    assert read(tmp_path).settings == {"gamma": 0.9, "env": "A", "model/x": 1}
    text = "|param|value|\n|-|-|\n|a|3e-4|\n|b|True|\n|c|None|\n|d|x-v1|\n|e|4|"
    assert settings_in_text(text) == {"a": 3e-4, "b": True, "c": None, "d": "x-v1", "e": 4}


def test_a_column_is_averaged_between_the_steps_of_an_axis():
    x = Column(np.array([1.0, 2, 3, 7]), np.array([4.0, np.nan, 8, 9]))
    np.testing.assert_array_equal(x.along(np.array([2.0, 3, 4, 6])), [4, 8, np.nan, 9])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("progress.csv", b"\xff\xfe\x00\x9f", "damaged, or no CSV"),
        ("progress.csv", b"a,b\n", "holds no numbers"),
        ("progress.csv", b"", "holds no numbers"),
        ("result.json", b'{"a": 1}\n{"b"\n{"c": 1}\n', "line 2 is no JSON"),
        ("result.json", b"[1]\n", "line 1 is no JSON object"),
        ("result.json", b'{"a":' * 100_000, "line 1 is nested too deeply"),
        ("trainer_state.json", b'{"step": 3}', "no log_history"),
        ("trainer_state.json", b'{"log_history":' + b"[" * 100_000, "no JSON"),
        ("trainer_state.json", b'{"log', "no JSON"),
        ("events.out.tfevents.1", b"nothing of the kind", "holds no numbers"),
        ("notes.txt", b"x", "not a log that is read"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_number_beyond_all_floats_is_infinite_as_it_is_in_a_csv(tmp_path):
    huge = "9" * 400
    (tmp_path / "a.jsonl").write_text(f'{{"x": {huge}}}\n{{"x": -{huge}}}\n{{"x": 1e400}}\n')
    (tmp_path / "a.csv").write_text(f"x\n{huge}\n-{huge}\n1e400\n")
    for name in ("a.jsonl", "a.csv"):
        found = read(tmp_path / name).columns["x"].values
        np.testing.assert_array_equal(found, [np.inf, -np.inf, np.inf])


def test_objects_in_objects_are_read_however_deep_they_are(tmp_path):
    deep = '{"a":' * 700 + "1" + "}" * 700
    (tmp_path / "a.jsonl").write_text(f"{deep}\n")
    assert list(read(tmp_path / "a.jsonl").columns) == ["/".join("a" * 700)]


class Trap:
    """What runs a program when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def test_pickles_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as file:
        file.writestr("data", pickle.dumps(Trap()))
    (tmp_path / "training_args.bin").write_bytes(pickle.dumps(Trap()))
    for name in ("model.zip", "training_args.bin"):
        with pytest.raises(UserError, match="hold pickles"):
            read(tmp_path / name)
    assert not is_log(tmp_path)
    progress(tmp_path, sb3_rows())
    assert read(tmp_path).files == ("progress.csv",)  # beside a log they are left alone


def test_one_run_is_found_two_folders_down_and_several_are_refused(tmp_path):
    cleanrl(tmp_path / "runs" / "a")
    assert "losses/approx_kl" in read(tmp_path).columns
    progress(tmp_path / "runs" / "b", sb3_rows())
    with pytest.raises(UserError, match=r"several logs; name one of them: .*a, .*b"):
        read(tmp_path)


def test_a_folder_of_a_run_of_ours_is_no_log(tmp_path):
    run = tmp_path / "a"
    lines(run / "metrics.jsonl", [{"kl": 0.1}])
    assert is_log(run)
    (run / "config.json").write_text("{}")
    assert not is_log(run)
    assert not is_log(tmp_path)
    assert not is_log(tmp_path / "nowhere")


def test_the_newest_checkpoint_of_a_trainer_holds_all(tmp_path):
    (tmp_path / "config.json").write_text("{}")  # of a language model
    for number in (5, 10):
        history = [{"step": i, "reward": float(i), "reward_std": 1.0} for i in range(number)]
        path = tmp_path / f"checkpoint-{number}" / "trainer_state.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"log_history": history}))
    assert len(read(tmp_path).columns["reward"].values) == 10


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(UserError, match=r"policygrad\[logs\]"):
        read(tmp_path)


def test_a_run_that_died_early_has_its_episodes_although_its_event_file_is_empty(tmp_path):
    events(tmp_path, {})
    (tmp_path / "progress.csv").touch()
    with pytest.raises(UserError, match="has written nothing yet"):
        read(tmp_path)
    (tmp_path / "0.monitor.csv").write_text("#{}\nr,l,t\n18.0,18,0.1\n21.0,21,0.2\n")
    np.testing.assert_array_equal(read(tmp_path).columns["monitor/r"].values, [18, 21])
