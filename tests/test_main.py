"""The command as `python -m policygrad`."""

from tests.worlds import python


def test_the_module_is_the_command():
    shown = python("-m", "policygrad", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "usage: policygrad " in shown.stdout
    assert "__main__" not in shown.stdout
    refused = python("-m", "policygrad", "evaluate", "no-such-run")
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith("policygrad: no run or policy at no-such-run")
