"""Scripts that worker processes run once more."""

import multiprocessing
import sys
from types import SimpleNamespace

import pytest

from policygrad.core.errors import UserError
from policygrad.processes import scripts


def test_a_script_from_a_pipe_is_refused(monkeypatch):
    main = SimpleNamespace(__file__="<stdin>", __spec__=None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(UserError, match=r"<stdin> is no file; save .* and run that, or do without"):
        scripts.check_script(", or do without")


@pytest.mark.parametrize(
    "main",
    [
        SimpleNamespace(__file__=__file__, __spec__=None),
        SimpleNamespace(__file__="in/an.zip", __spec__="of a module"),
        SimpleNamespace(),
        None,
    ],
    ids=["a file", "a module", "an interactive session", "nothing"],
)
def test_what_workers_can_run_is_not_refused(monkeypatch, main):
    monkeypatch.setitem(sys.modules, "__main__", main)
    scripts.check_script()


def test_a_worker_that_is_only_starting_ends(monkeypatch):
    codes = []
    monkeypatch.setattr("os._exit", codes.append)
    scripts.end_where_the_script_runs_again()
    assert codes == []
    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    monkeypatch.setattr(process, "name", scripts.NAME)
    with pytest.raises(UserError):  # as the process goes on here
        scripts.end_where_the_script_runs_again()
    assert codes == [scripts.NO_GUARD]


def test_a_process_of_another_library_is_told_what_its_script_lacks(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(UserError, match="and it would start them again"):
        scripts.check_script()
