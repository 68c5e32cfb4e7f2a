"""The command `policygrad`. Nothing numerical is imported before a command begins to run."""

import contextlib
import errno
import io
import os
import select
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from policygrad import __version__
from policygrad.core.elsewhere import OF_EVALUATE
from policygrad.core.errors import PolicygradError, UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 a failure, 2 a mistake of the user's, 128 plus the number
    of the signal that ended it: 130 Ctrl-C, 143 SIGTERM."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without Greek letters shows "?"
        sys.stdout.reconfigure(errors="replace")
    warnings.showwarning = _show_warning
    _find_modules_here()
    sys.exit(run(sys.argv[1:] if argv is None else list(argv)))


def _find_modules_here() -> None:
    """A module of the user's own in the current folder is found, as by `python -m`."""
    with contextlib.suppress(FileNotFoundError):  # the folder was removed
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())


def run(argv: list[str]) -> int:
    """Run the command; returns its exit code. A mistake prints one line on stderr, no traceback."""
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except PolicygradError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt as stopped:  # or a second SIGTERM
        print("stopped", file=sys.stderr)
        return getattr(stopped, "exit_code", 130)
    except OSError as error:
        return _failed_to_write() or _refused_by_the_system(error)
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        print(f"policygrad: out of memory ({error}); {LESS_MEMORY}", file=sys.stderr)
        return 1


LESS_MEMORY = "take smaller networks (--hidden), fewer environments or smaller batches"


def _run(argv: list[str]) -> int:
    match argv[:1]:
        case ["--version"]:
            print(f"policygrad {__version__}")
            return 0
        case ["train"]:
            from policygrad.cli.train import main as command
        case ["resume"]:
            from policygrad.cli.resume import main as command
        case ["evaluate"]:
            _refuse_translated(argv)
            return _other(argv)
        case ["diagnose"]:
            from policygrad.cli.diagnose import main as command
        case _:
            return _other(argv)
    return command(argv[1:])


def _refuse_translated(argv: list[str]) -> None:
    """UserError for a flag of another library's evaluation, with what there is in its place."""
    for word in (word.partition("=")[0] for word in argv if word.startswith("--")):
        hint = OF_EVALUATE.get(word[2:].replace("-", "_"))
        if hint is not None:
            raise UserError(f"unknown flag {word}; {hint}")


def _failed_to_write() -> int:
    """1 if the output cannot be written, and 0 if an error has another cause.

    A pipe that the reader closed, as with `| head`, is no error and ends in silence.
    """
    try:
        sys.stdout.flush()
        closed = _closed(sys.stdout) or _closed(sys.stderr)
    except BrokenPipeError:
        closed = True
    except OSError as error:
        print(f"policygrad: cannot write to stdout: {error.strerror}", file=sys.stderr)
        closed = True
    if closed:  # nor may the interpreter try again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(closed)


def _closed(stream: Any) -> bool:
    """Whether the reader of a pipe has closed it."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no pipe, or a system without poll
        return False


def _refused_by_the_system(error: OSError) -> int:
    """One line for what the system refused, which names the file."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    told = f"{' → '.join(names)}: " if names else ""
    if isinstance(error, FileNotFoundError) and not names:
        told = "the current folder is not there any more: "
    elif error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF) and not names:
        told = "cannot write the output: "
    print(f"policygrad: {told}{error.strerror or error}", file=sys.stderr)
    return 1


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)[:200]


def _show_warning(message: Any, category: type, *place: Any, **more: Any) -> None:
    """A warning as one line."""
    if category is UserWarning or category.__module__.startswith("policygrad."):
        print(f"policygrad: {' '.join(str(message).split())}", file=sys.stderr)
    else:
        _python_shows(message, category, *place, **more)


_python_shows = warnings.showwarning


def _other(argv: list[str]) -> int:
    """Run the commands whose flags do not depend on one another, or show the overview of all."""
    import tyro

    from policygrad.cli import commands
    from policygrad.cli.evaluate import evaluate
    from policygrad.cli.exact import exact, join_theta
    from policygrad.cli.export import export
    from policygrad.cli.plot import plot
    from policygrad.cli.watch import watch

    return tyro.extras.subcommand_cli_from_dict(
        {
            "train": commands.train,
            "resume": commands.resume,
            "evaluate": evaluate,
            "watch": watch,
            "diagnose": commands.diagnose,
            "plot": plot,
            "export": export,
            "exact": exact,
        },
        prog="policygrad",
        description="Policy gradients: train, evaluate, watch, diagnose, plot and export policies. "
        "--version prints the version.",
        args=join_theta(argv),
        sort_subcommands=False,
    )


def print_error(error: PolicygradError) -> None:
    """Print one line on stderr, and one for each note; if an environment raised, its traceback
    first."""
    if error.exit_code == 1 and error.__cause__ is not None:
        import traceback

        traceback.print_exception(error.__cause__, file=sys.stderr)
    first, *rest = str(error).splitlines()
    if error.exit_code == 1 and error.__cause__ is None and rest:
        print("\n".join(rest), file=sys.stderr)  # the traceback of a worker process, sent as text
    for line in (first, *getattr(error, "__notes__", ())):
        print(f"policygrad: {line}", file=sys.stderr)
