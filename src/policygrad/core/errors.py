"""Errors that a user can act on. The command prints them in one line and exits with their code."""

__all__ = [
    "EnvironmentFailure",
    "NonFiniteError",
    "PolicygradError",
    "RunError",
    "UnsupportedSpaceError",
    "UserError",
    "WriteError",
]


class PolicygradError(Exception):
    """Base class of all errors that this library raises on purpose.

    Attributes:
        exit_code: what the command exits with.
    """

    exit_code = 1


class UserError(PolicygradError):
    """A mistake in the arguments. The message names the value, its place and what to do."""

    exit_code = 2


class UnsupportedSpaceError(UserError):
    """An observation or action space that this library's policies do not support."""


class RunError(UserError):
    """A run, checkpoint or policy file that is missing, damaged, or of a newer format."""


class WriteError(PolicygradError):
    """A file of a run cannot be written: the disk is full or read-only, or the run is removed."""


class NonFiniteError(PolicygradError):
    """A number that is NaN, infinite, or too large to compute with.

    Attributes:
        kind: what held it: observation, reward, mask, gradient, critic, or number where it is not
            known.
    """

    def __init__(self, message: str, kind: str = "number") -> None:
        super().__init__(message)
        self.kind = kind


def moment(step: int) -> str:
    """When in its episode an environment returned something: by its so many-th step, the first of
    which is 1, or by its reset.

    >>> moment(0), moment(3)
    ('at reset', 'at step 3')
    """
    return f"at step {step}" if step else "at reset"


class EnvironmentFailure(PolicygradError):
    """An environment raised, and its own exception is the cause; or it broke what it declares."""
