"""Environments that are broken in small ways: each leads to a clear error, or to the right result,
in training, in evaluation and in a diagnosis; none of them in silence."""

import re
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import pytest

import policygrad
from policygrad.core.errors import PolicygradError
from policygrad.policies import Agent, network_policy
from tests.environments.broken import BROKEN, Broken, Five

# an error in `close` costs no result, and is a warning
pytestmark = pytest.mark.filterwarnings("ignore:environment . raised .* in close:RuntimeWarning")

SETTINGS: dict[str, Any] = {
    "num_envs": 2,
    "batch_steps": 32,
    "total_steps": 96,
    "hidden": (4,),
    "critic_epochs": 1,
}
IN_WORKERS = [b for b in BROKEN if b.settings.get("processes")]
HERE = [b for b in BROKEN if b not in IN_WORKERS]


def settings_of(broken: Broken) -> dict[str, Any]:
    settings = SETTINGS | broken.settings
    return {name: value for name, value in settings.items() if value is not None}


def outcome(run: Callable[[], float | None]) -> tuple[str, Any]:
    """`("error", message)` for an error of this library, `("result", number)` for a result.

    Any other exception comes out: it would be a traceback to a user.
    """
    try:
        return "result", run()
    except PolicygradError as error:
        return "error", str(error)


def check(broken: Broken, found: tuple[str, Any]) -> None:
    kind, what = found
    if broken.error is None:
        assert found == ("result", pytest.approx(broken.returns))
    else:
        assert kind == "error", f"no error, and a mean return of {what}"
        assert re.search(broken.error, what, re.DOTALL), what


def train(broken: Broken) -> float | None:
    return policygrad.train(broken.make, **settings_of(broken)).summary["return_mean"]


def test_there_are_a_hundred_of_them() -> None:
    assert len(BROKEN) >= 100
    assert len({b.name for b in BROKEN}) == len(BROKEN)


@pytest.mark.filterwarnings("ignore:float32 cannot tell")  # of LargeIntegers
@pytest.mark.parametrize("broken", HERE, ids=lambda b: b.name)
def test_training(broken: Broken) -> None:
    check(broken, outcome(lambda: train(broken)))


@pytest.mark.slow
@pytest.mark.parametrize("broken", IN_WORKERS, ids=lambda b: b.name)
def test_training_in_worker_processes(broken: Broken) -> None:
    check(broken, outcome(lambda: train(broken)))


def agent_for(make: Any) -> Agent:
    """An agent that is not trained, for the spaces that an environment declares, if it does."""
    spaces = [getattr(make, name, None) for name in ("observation_space", "action_space")]
    for i, usual in enumerate((Five.observation_space, Five.action_space)):
        if not isinstance(spaces[i], gymnasium.Space):
            spaces[i] = usual
    try:
        policy = network_policy(jax.random.key(0), *spaces, hidden=(4,))
    except PolicygradError:  # a space that no policy supports: its environment is still refused
        spaces = [Five.observation_space, Five.action_space]
        policy = network_policy(jax.random.key(0), *spaces, hidden=(4,))
    return Agent(policy, *spaces)


def evaluate(broken: Broken) -> float:
    opened = {n: broken.settings[n] for n in ("processes", "step_timeout") if n in broken.settings}
    found = policygrad.evaluate(
        agent_for(broken.make), broken.make, episodes=4, num_envs=2, max_episode_steps=50, **opened
    )
    return found.stochastic.mean


@pytest.mark.parametrize("broken", HERE, ids=lambda b: b.name)
def test_evaluation(broken: Broken) -> None:
    found = outcome(lambda: evaluate(broken))
    if broken.evaluated is not None:
        assert found == ("result", pytest.approx(broken.evaluated))
    else:
        check(broken, found)


@pytest.mark.slow
@pytest.mark.parametrize("broken", IN_WORKERS, ids=lambda b: b.name)
def test_evaluation_in_worker_processes(broken: Broken) -> None:
    check(broken, outcome(lambda: evaluate(broken)))


def diagnose(broken: Broken) -> str:
    """What a diagnosis finds, in its own words; the mean return if nothing is wrong."""
    settings = settings_of(broken) | {"total_steps": 640}
    found = policygrad.diagnose(
        env=broken.make, config=policygrad.TrainConfig(**settings), episodes=8, gradients=False
    )
    return "; ".join(f"{f.cause} {f.evidence}" for f in found.findings) or "healthy"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:float32 cannot tell")  # of LargeIntegers
@pytest.mark.parametrize("broken", HERE, ids=lambda b: b.name)
def test_a_diagnosis(broken: Broken) -> None:
    kind, what = outcome(lambda: diagnose(broken))
    if broken.error is None:
        assert kind == "result", what
    else:  # an error that says what is wrong, or a finding that does
        assert re.search(broken.error, what, re.DOTALL), what
