"""What the progress of a run shows."""

from policygrad.cli.progress import FIELDS, Progress


def test_what_remains_at_the_end_shows_the_speed_of_the_whole_run(capsys):
    newest = dict.fromkeys((name for name, *_ in FIELDS), 1.0)
    newest |= {"env_steps": 300, "seconds": 2.0, "steps_per_second": 7_000.0}
    with Progress("a run", 300) as progress:
        progress.update(newest)
    shown = capsys.readouterr().err
    assert "300/300 steps" in shown
    assert shown.rstrip().endswith("steps/s 150")
