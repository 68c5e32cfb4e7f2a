"""The command `policygrad`. Nothing numerical is imported before a command begins to run."""

import os
import sys
from collections.abc import Sequence

from policygrad.core.errors import PolicygradError


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 a failure, 2 a mistake of the user's, 130 Ctrl-C."""
    if os.getcwd() not in sys.path:  # so that a module of the user's own is found, as by python -m
        sys.path.append(os.getcwd())
    sys.exit(run(sys.argv[1:] if argv is None else list(argv)))


def run(argv: list[str]) -> int:
    """Run the command; returns its exit code. A mistake prints one line on stderr, no traceback."""
    # a closed pipe, as with `| head`, is not an error
    try:
        match argv[:1]:
            case ["train"]:
                from policygrad.cli.train import main as command

                return command(argv[1:])
            case ["diagnose"]:
                from policygrad.cli.diagnose import main as command

                return command(argv[1:])
        return _other(argv)
    except PolicygradError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _other(argv: list[str]) -> int:
    """Run the commands whose flags do not depend on one another, or show the overview of all."""
    import tyro

    from policygrad.cli import commands
    from policygrad.cli.exact import exact, join_theta

    return tyro.extras.subcommand_cli_from_dict(
        {
            "train": commands.train,
            "resume": commands.resume,
            "evaluate": commands.evaluate,
            "diagnose": commands.diagnose,
            "plot": commands.plot,
            "exact": exact,
        },
        prog="policygrad",
        description="Policy gradients: train a policy, evaluate, diagnose and plot it.",
        args=join_theta(argv),
        sort_subcommands=False,
    )


def print_error(error: PolicygradError) -> None:
    """Print one line on stderr; if an environment raised, its traceback first."""
    if error.exit_code == 1 and error.__cause__ is not None:
        import traceback

        traceback.print_exception(error.__cause__, file=sys.stderr)
    first, *rest = str(error).splitlines()
    if error.exit_code == 1 and error.__cause__ is None and rest:
        print("\n".join(rest), file=sys.stderr)  # the traceback of a worker process, sent as text
    print(f"policygrad: {first}", file=sys.stderr)
