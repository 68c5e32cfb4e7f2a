"""Running statistics that an environment or a wrapper keeps: of one copy alone, and never saved."""

from typing import Any

import gymnasium
from gymnasium.vector import VectorWrapper

from policygrad.environments.sharing import parts_of

OF_REWARDS = ("rew", "ret")  # what names of statistics of rewards and returns begin with
USUAL_NAMES = ("running_mean", "running_var", "running_std")
PARTS = {"mean", "var", "count"}  # attributes of an object that keeps a mean and a variance
SWITCHES = ("update_running_mean", "training")  # False if the statistics are frozen


def kept_statistics(env: Any) -> list[str]:
    """A sentence for each kind of wrapper, or of environment, that keeps running statistics.

    Args:
        env: an environment, or a vector environment whose copies are in this process.
    """
    found: dict[str, str] = {}
    for part in parts_of(env):
        attributes = getattr(part, "__dict__", {})
        names = [name for name, value in attributes.items() if _is_statistic(name, value)]
        frozen = any(getattr(part, switch, True) is False for switch in SWITCHES)
        if names and not frozen:
            found.setdefault(type(part).__name__, _sentence(part, names))
    return list(found.values())


def _is_statistic(name: str, value: Any) -> bool:
    if getattr(value, "__dict__", {}).keys() >= PARTS:
        return True
    usual = f"_{name}".endswith("_rms") or any(text in name for text in USUAL_NAMES)
    return usual and not (value is None or callable(value) or isinstance(value, (bool, str)))


def _sentence(part: Any, names: list[str]) -> str:
    rewards = any(name.strip("_").startswith(OF_REWARDS) for name in names)
    returns = "; the returns that are reported are those of its normalised rewards" * rewards
    is_wrapper = isinstance(part, (gymnasium.Wrapper, VectorWrapper))
    return (
        f"{type(part).__name__} keeps running statistics ({', '.join(names)}): each copy of the "
        "environment has its own, and nothing saves them, so that an evaluation and a resumed run "
        f"begin with others{returns}. This library normalises by itself (normalise_observations, "
        f"scale_rewards): leave {'the wrapper' if is_wrapper else 'them'} out"
    )
