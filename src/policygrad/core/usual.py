"""Default numbers that several folders read."""

BATCH_STEPS = 2048
"""Steps of all environments together in a batch of segments."""

LONGEST_EPISODE = 10_000
"""Steps after which an episode is too long, in an environment without a time limit."""


def longest_episode(asked: int | None, time_limit: int | None) -> int:
    """Steps after which an episode is too long.

    Args:
        asked: the user's number; None if none was given.
        time_limit: of the environment; None if it has none.
    """
    return asked or time_limit or LONGEST_EPISODE
