"""The command finds a module in the folder where it is called."""

import sys

import pytest

from policygrad import cli

MODULE = "import gymnasium\ngymnasium.register('Near-v0', 'tests.worlds:Chain')\n"


@pytest.mark.slow
def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch, capsys):
    (tmp_path / "near_by.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    flags = ["--num-envs", "4", "--batch-steps", "32", "--total-steps", "64", "--out", "run"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "near_by:Near-v0", *flags])
    assert caught.value.code in (0, None), capsys.readouterr().err
    assert (tmp_path / "run" / "policy.json").exists()
