"""What to change, in words and as settings, where several rules say the same."""

from collections.abc import Mapping
from typing import Any

from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.rules.rule import Proposals
from policygrad.diagnostics.rules.settings import Settings

SQUASHED: Proposals = ({"tanh_gaussian": True, "clipped_gaussian": None},)


def knob(settings: Settings) -> str:
    """What sizes the steps, in words."""
    return "step size (here --target-kl)" if settings.sized_by_kl else "step size"


def other_step(settings: Settings, *, smaller: bool) -> tuple[str, Proposals]:
    """What to change, in words and as settings."""
    if settings.own_steps:
        return f"Give the optimiser a {'smaller' if smaller else 'larger'} learning rate.", ()
    name, factor = ("target_kl", 2.0) if settings.sized_by_kl else ("step_size", 10.0)
    given = settings.of_algorithm(name)
    if given is None:  # the algorithm is somebody's own
        return f"Give the algorithm a {'smaller' if smaller else 'larger'} step size.", ()
    value = _nearer(given, settings.usual(name) or given, factor, smaller=smaller)
    change = settings.advice(name, value, given)
    target, proposed = settings.usual("target_kl"), {name: value}
    if target is not None and not settings.sized_by_kl and not settings.adapts_step:
        change = f"{change}, and --target-kl {target:g}, which adapts it"
        proposed["target_kl"] = target
    return f"{change}.", (proposed,) if settings.describes("algorithm") else ()


def settings_of_algorithm(e: Examination, *proposed: Mapping[str, Any]) -> Proposals:
    """Settings of the algorithm as proposals; none where it was passed as an object."""
    return proposed if Settings.of(e).describes("algorithm") else ()


def _nearer(given: float, usual: float, factor: float, *, smaller: bool) -> float:
    """What a setting should be: the usual value if it is far from that, else a factor away."""
    off = given > 3 * usual if smaller else given < usual / 3
    return usual if off else given / factor if smaller else given * factor
