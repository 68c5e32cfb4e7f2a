"""Scripts that start worker processes: each worker runs the script once more as it starts."""

import multiprocessing
import os
import sys

from policygrad.core.errors import UserError

NAME = "policygrad worker"  # of every worker process
NO_GUARD = 79  # what a worker exits with where its script would start workers again
GUARD = (
    "worker processes run the script once more as they start, and it would start them again. Put "
    'what the script does under `if __name__ == "__main__":`'
)


def end_where_the_script_runs_again() -> None:
    """End this process if it is a worker that is only starting; its parent says why.

    Raises:
        UserError: another library started the process.
    """
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):
        if process.name == NAME:
            os._exit(NO_GUARD)
        raise UserError(GUARD)


def check_script(instead: str = "") -> None:
    """Before workers are started: the script must be a file that they can run.

    Args:
        instead: ends the message: what to do in place of starting workers.

    Raises:
        UserError: it was read from a pipe.
    """
    end_where_the_script_runs_again()
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is not None and getattr(main, "__spec__", None) is None and not os.path.exists(path):
        raise UserError(
            f"worker processes run the script once more as they start, and {path} is no file; save "
            f"the script to a file, and run that{instead}"
        )
