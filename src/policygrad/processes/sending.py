"""What a user passed, as it is sent to other processes."""

import pickle
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

from gymnasium.vector.utils import CloudpickleWrapper

from policygrad.core.errors import UserError


@dataclass(frozen=True)
class Sent:
    """A value that is pickled once, and read by each process that it is sent to.

    Attributes:
        name: what it is called in errors.
        pickled: its bytes.
    """

    name: str
    pickled: bytes

    @classmethod
    def by_name(cls, name: str, value: Any, instead: str = "") -> Self:
        """Functions and classes in it are sent by their names, which a module must have.

        Args:
            name: what it is called in errors.
            value: what is sent.
            instead: ends the message: what to do in place of sending it.

        Raises:
            UserError: it cannot be sent.
        """
        try:
            return cls(name, bytes(ForkingPickler.dumps(value)))
        except Exception as error:
            raise UserError(
                f"{name} cannot be sent to a worker process ({error}); pass an id, or a function "
                "or class that is defined at the top of a module and creates open files, locks and "
                f"other things of a process itself{instead}"
            ) from error

    @classmethod
    def by_content(cls, name: str, value: Any, instead: str = "") -> Self:
        """What no module names, such as a lambda or a class of the script, goes by its content.

        Args, Raises: of `by_name`.
        """
        try:
            return cls.by_name(name, CloudpickleWrapper(value), instead)
        except UserError:
            if not _can_be_named(value):  # what a script defines may use what cannot be sent
                raise
            return cls.by_name(name, value, instead)

    def read(self) -> Any:
        """The value, in the process that it was sent to.

        Raises:
            UserError: it cannot be read there.
        """
        try:
            value = pickle.loads(self.pickled)
        except Exception as error:
            raise UserError(f"{self.name} cannot be read in a worker process: {error!r}") from error
        return value.fn if isinstance(value, CloudpickleWrapper) else value


def _can_be_named(value: Any) -> bool:
    try:
        ForkingPickler.dumps(value)
    except Exception:
        return False
    return True
