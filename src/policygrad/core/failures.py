"""Why a run stopped by itself: written by training, read by whoever looks at the run."""

from typing import NamedTuple


class Failure(NamedTuple):
    """Why training stopped by itself.

    Attributes:
        message: what happened, in plain words.
        env_steps: environment steps trained before it.
        kind: what was not finite: "observation", "reward", "gradient" or "critic". Or "mask": an
            action mask that permits no action. None if it was none of these.
    """

    message: str
    env_steps: int
    kind: str | None = None
