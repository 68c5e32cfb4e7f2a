"""The callback of `train_seeds`: it is told of every update of every seed, and stops none."""

import inspect
from collections.abc import Callable
from typing import Any

from policygrad.core.errors import UserError
from policygrad.training.metrics import Metrics

OnSeedUpdate = Callable[[int, Metrics], Any]


def check_seed_callback(on_update: OnSeedUpdate | None) -> None:
    """UserError unless it takes a seed and metrics."""
    fits = on_update is None
    if callable(on_update) and not isinstance(on_update, type):
        try:
            inspect.signature(on_update).bind(0, {})
            fits = True
        except TypeError:
            fits = False
        except ValueError:  # no signature is known
            fits = True
    if not fits:
        raise UserError(
            "on_update of train_seeds must be a function of a seed and the metrics of an update, "
            f"got {on_update!r}; callbacks of one run, as policygrad.callbacks has them, are for "
            "policygrad.train"
        )


def of_seed(on_update: OnSeedUpdate, seed: int) -> Callable[[Metrics], None]:
    """A callback for one seed, which takes metrics alone and stops nothing."""

    def told(metrics: Metrics) -> None:
        answer = on_update(seed, metrics)
        if answer is not None and answer is not True:
            raise UserError(
                f"on_update of train_seeds returned {answer!r}; it cannot stop a seed. Train the "
                "seeds one by one with policygrad.train, whose callbacks can"
            )

    told.needs_state = False  # pyright: ignore[reportFunctionMemberAccess]
    return told
