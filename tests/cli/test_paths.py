"""Paths, output streams and what the system refuses."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import policygrad
from policygrad import cli
from policygrad.core.errors import UserError
from policygrad.core.shell import command as printed
from policygrad.core.shell import user_path
from tests.cli.test_commands import command, refused, run_path  # noqa: F401
from tests.worlds import TINY, TINY_FLAGS, environment_variables

# ruff: noqa: F811


def in_a_process(*argv, **kwargs):
    code = "from policygrad.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        **{"capture_output": True, "env": environment_variables(), **kwargs},
    )


# ----- paths that begin with ~, and hints that can be pasted


def test_case_27_tilde_is_the_home_directory(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, _, _ = command("train", "CartPole-v1", *TINY_FLAGS, "--out=~/my runs/a")
    assert code == 0
    assert (tmp_path / "home/my runs/a/config.json").exists()
    assert not (tmp_path / "~").exists()
    for words in (
        ["evaluate", "~/my runs/a", "--episodes=2"],
        ["plot", "~/my runs/a", "--out=~/a.png"],
        ["resume", "~/my runs/a", "--total-steps=96"],
        ["train", "--config=~/my runs/a", "--out=~/b"],
        ["train", "--from=~/my runs/a", *TINY_FLAGS, "--out=~/c"],
    ):
        code, _, err = command(*words)
        assert code == 0, err
    assert {p.name for p in (tmp_path / "home").iterdir()} == {"my runs", "a.png", "b", "c"}


def test_case_27_tilde_in_python(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    policygrad.train("CartPole-v1", out="~/a", **TINY)
    assert policygrad.load("~/a").action_space.n == 2
    assert policygrad.evaluate("~/a", episodes=2).seed == 0
    assert policygrad.resume("~/a", total_steps=96).path == tmp_path / "a"
    runs = policygrad.train_seeds("gymnax/CartPole-v1", [0], out="~/s", **TINY)
    assert runs.path == tmp_path / "s"
    with pytest.raises(UserError, match="home directory"):
        user_path("~nobody_of_this_name/a")
    with pytest.raises(UserError, match="a path must be text"):
        user_path(3)  # pyright: ignore


def test_case_27_hints_can_be_pasted(command, tmp_path):
    path = "it's my run"
    _, out, _ = command("train", "CartPole-v1", *TINY_FLAGS, "--out", path)
    hint = out.partition("next: ")[2].strip()
    assert shlex.split(hint) == ["policygrad", "evaluate", path]
    _, _, err = command("train", "CartPole-v1", *TINY_FLAGS, "--out", path)
    assert printed("resume", path) in err
    assert shlex.split(printed("resume", "a b")) == ["policygrad", "resume", "a b"]


# ----- things in the way


def test_case_27_what_is_in_the_way_is_one_line(refused, tmp_path):
    (tmp_path / "file").write_text("")
    for out in ("file", "file/a"):
        assert "file" in refused("train", "CartPole-v1", *TINY_FLAGS, "--out", out)


@pytest.mark.parametrize("words", [["train", "CartPole-v1", "--out"], ["evaluate"], ["plot"],
                                   ["resume"], ["diagnose"], ["train", "--from"],
                                   ["train", "--config"]])  # fmt: skip
def test_case_27_a_name_that_is_too_long_is_one_line(command, words):
    code, out, err = command(*words, "x" * 300)
    assert code in (1, 2)
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert "too long" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_case_14_a_parent_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in refused("train", "CartPole-v1", *TINY_FLAGS, "--out", "locked/a")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "a/config.json"), "a/config.json: Permission"),
        (OSError(28, "No space left on device", "b"), "b: No space left on device"),
        (OSError(28, "No space left on device"), "cannot write the output: No space left"),
        (FileNotFoundError(2, "No such file or directory"), "current folder is not there"),
        (IsADirectoryError(21, "Is a directory", "x", None, "y"), "x → y: Is a directory"),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe"),
        (MemoryError("cannot allocate"), "out of memory (cannot allocate)"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"), "take smaller networks"),
    ],
)
def test_case_14_what_the_system_refuses_is_one_line(capsys, monkeypatch, error, words):
    def fails(argv):
        raise error

    monkeypatch.setattr(cli, "_run", fails)
    assert cli.run(["train"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert words in err


def test_an_error_of_ours_keeps_its_traceback(monkeypatch):
    def fails(argv):
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_run", fails)
    with pytest.raises(ZeroDivisionError):
        cli.run(["train"])


@pytest.mark.parametrize("words", [["plot"], ["evaluate"], ["diagnose"], ["resume"]])
@pytest.mark.parametrize("what", ["file", "empty", "other"])
def test_what_is_no_run_is_one_line(refused, tmp_path, words, what):
    (tmp_path / "file").write_text("no run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text('{"a": 1}')
    assert what in refused(*words, what)


# ----- output


def test_version(command):
    assert command("--version") == (0, f"policygrad {policygrad.__version__}\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv", [["exact", "two-armed-bandit"], ["train", "--help"], ["diagnose", "--help"]]
)
def test_fault_20_ascii_output(argv, tmp_path):
    variables = environment_variables() | {"PYTHONIOENCODING": "ascii"}
    done = in_a_process(*argv, env=variables, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("ascii")
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_fault_20_output_to_a_full_device(run_path, tmp_path):
    with open("/dev/full", "w") as full:
        done = in_a_process("plot", run_path, stdout=full, capture_output=False,
                            stderr=subprocess.PIPE, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.decode().strip() in (
        "policygrad: cannot write the output: No space left on device",
        "policygrad: cannot write to stdout: No space left on device",
    )
    assert (tmp_path / "learning_curves.png").exists()


def test_fault_03_a_broken_pipe_elsewhere_is_not_taken_for_a_closed_stdout(capsys, monkeypatch):
    def fails(argv):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "_run", fails)
    assert cli.run(["train"]) == 1
    assert capsys.readouterr().err == "policygrad: Broken pipe\n"


@pytest.mark.slow
@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_goes_away_is_no_error(buffered, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", "from policygrad.cli import main; main()", "exact", "chain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment_variables() | ({} if buffered else {"PYTHONUNBUFFERED": "1"}),
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_warnings_are_one_line(tmp_path):
    code = (
        "import warnings\nfrom policygrad import cli\n"
        "cli._run = lambda argv: warnings.warn('two\\n  lines') or 0\ncli.main(['x'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment_variables(), text=True
    )
    assert (done.returncode, done.stderr) == (0, "policygrad: two lines\n")
