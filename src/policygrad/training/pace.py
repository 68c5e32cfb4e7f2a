"""How many updates run in one program."""

from policygrad.training.programs import MOST_UPDATES


class Pace:
    """How many updates to run in one program, so that it takes about half a second.

    Ctrl-C, checkpoints and progress wait for a program to end, so it should not be long. Each
    program costs some time, so it should not be short. Results do not depend on the number.
    """

    def __init__(self, *, one_by_one: bool = False, seconds: float = 0.5) -> None:
        self._most = 1 if one_by_one else MOST_UPDATES
        self._seconds, self._programs, self._next = seconds, 0, 1

    def count(self, wanted: int) -> int:
        """How many updates to run next, of those that are wanted."""
        return max(1, min(wanted, self._next))

    def took(self, count: int, seconds: float) -> None:
        """Take in how long a program took. The first one is ignored, because it compiles."""
        self._programs += 1
        if self._programs > 1:
            fitting = int(self._seconds * count / max(seconds, 1e-9))
            self._next = max(1, min(self._most, fitting, 8 * count))
