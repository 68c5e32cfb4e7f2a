"""Settings that nothing reads: an error that names what would read them."""

from collections.abc import Iterable, Mapping
from functools import cache

from policygrad.core.errors import UserError
from policygrad.core.reflection import names_of
from policygrad.core.settings import flag
from policygrad.training.built_in import (
    ALGORITHMS,
    BASELINES,
    ESTIMATORS,
    OPTIMISERS,
    GroupReturns,
    takes_optimiser,
)


@cache
def readers() -> Mapping[str, tuple[str, ...]]:
    """Setting -> the flags of what reads it, for all settings that only some choices read."""
    found: dict[str, list[str]] = {}
    tables: tuple[tuple[str, Mapping[str, type]], ...] = (
        ("algorithm", ALGORITHMS), ("optimiser", OPTIMISERS), ("estimator", ESTIMATORS),
        ("baseline", BASELINES),
    )  # fmt: skip
    for choice, table in tables:
        for name, record in table.items():
            for setting in names_of(record):
                found.setdefault(setting, []).append(f"{flag(choice)} {name}")
    for name, record in ALGORITHMS.items():
        if takes_optimiser(record):
            found.setdefault("optimiser", []).append(f"--algorithm {name}")
    return {name: tuple(who) for name, who in found.items()}


def refuse(given: Iterable[str], read: Iterable[str], chosen: Mapping[str, str]) -> None:
    """Raise UserError for a setting that was given and that nothing reads.

    Args:
        given: names of settings.
        read: names of those that the choices read.
        chosen: what was chosen: setting -> value.
    """
    for name in sorted(set(given) - set(read)):
        who = readers().get(name)
        if who is None:
            raise UserError(
                f"{flag(name)} is read by the default policy, but a policy was passed; leave it out"
            )
        deciding = {word.split()[0] for word in who}
        ours = " and ".join(f"{flag(k)} {v}" for k, v in chosen.items() if flag(k) in deciding)
        if not ours and ESTIMATORS.get(chosen.get("estimator", "")) is GroupReturns:
            ours = f"--estimator {chosen['estimator']}, which has no other baseline"
        raise UserError(
            f"{flag(name)} is read by {_listed(who)}, but not by "
            f"{ours or 'what was passed in its place'}; leave it out, or choose {_listed(who)}"
        )


def _listed(words: tuple[str, ...]) -> str:
    """`--algorithm vanilla or ppo` from `--algorithm vanilla`, `--algorithm ppo`."""
    by_choice: dict[str, list[str]] = {}
    for word in words:
        choice, name = word.split()
        by_choice.setdefault(choice, []).append(name)
    return " and ".join(f"{choice} {' or '.join(names)}" for choice, names in by_choice.items())
