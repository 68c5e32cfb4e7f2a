"""What a linear schedule leaves of the steps of a run that is resumed."""

LITTLE = 0.01


def little_left(schedule: str | None, steps: int, total_steps: int) -> str | None:
    """A warning, if a linear schedule leaves hardly anything to train; else None.

    Args:
        schedule: the run's `step_size_schedule`; None if nothing reads it.
        steps: that were made.
        total_steps: over which the schedule runs.
    """
    left = 1 - steps / total_steps
    if schedule != "linear" or left >= LITTLE:
        return None
    return (
        f"{steps:,} of {total_steps:,} steps are made, and with --step-size-schedule linear the "
        f"steps have shrunk to {max(left, 0):.2%} of their first size: hardly anything is left to "
        "train; raise --total-steps, over which the schedule then runs"
    )
