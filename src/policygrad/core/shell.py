"""What a user types: paths that begin with `~`, and commands that can be pasted as they are."""

import shlex
from os import PathLike
from pathlib import Path

from policygrad.core.errors import UserError


def user_path(path: str | PathLike[str]) -> Path:
    """A path as the user meant it: `~` and `~name` at its beginning are home directories.

    Raises:
        UserError: it is no path, or there is no such home directory.
    """
    try:
        return Path(path).expanduser()
    except TypeError as error:
        raise UserError(f"a path must be text or a pathlib.Path, got {path!r}") from error
    except RuntimeError as error:
        raise UserError(
            f"cannot find the home directory in {str(path)!r}; write the whole path"
        ) from error


def command(*words: object) -> str:
    """A command of `policygrad` with its arguments, quoted where the shell needs it.

    >>> command("resume", "my runs/a")
    "policygrad resume 'my runs/a'"
    """
    return shlex.join(["policygrad", *map(str, words)])
