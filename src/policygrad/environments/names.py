"""Names that a user may have mistyped, and packages that may be missing."""

import difflib
import importlib
import importlib.util
from typing import Any

from policygrad.core.errors import UserError


def require_extra(package: str, what: str, extra: str | None = None) -> Any:
    """Import an optional package, or raise UserError with the command that installs it."""
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{what} needs {package}, which is not installed; "
            f"pip install 'policygrad[{extra or package}]'"
        )
    return importlib.import_module(package)


def nearest(name: str, known: list[str], prefix: str = "") -> str:
    """', did you mean …' with the closest names, whatever their case; '' if none is close."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5)
    if not close:
        return ""
    return ", did you mean " + " or ".join(prefix + by_lower[c] for c in close) + "?"


def refuse_what_steps_itself(name: str, processes: bool, step_timeout: float | None) -> None:
    """Raise UserError for settings of Gymnasium's steps, where another engine makes the steps."""
    asked = "--processes" if processes else f"--step-timeout {step_timeout}"
    if processes or step_timeout is not None:
        raise UserError(
            f"{asked} is for environments that Gymnasium steps, and {name} is not one; leave it "
            "out, or name the environment gymnasium/…, if Gymnasium has it"
        )
