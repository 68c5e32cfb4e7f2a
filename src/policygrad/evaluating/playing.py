"""An agent plays episodes, once by its distribution's mode and once by samples."""

from collections.abc import Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import jax

from policygrad import environments
from policygrad.core.errors import UserError
from policygrad.core.settings import flag
from policygrad.core.shell import user_path
from policygrad.core.usual import longest_episode
from policygrad.devices.compiled_code import free_compiled_code
from policygrad.environments.wrapping import Wrapper
from policygrad.evaluating.places import Place, asked_for, name_of
from policygrad.evaluating.results import WAYS, Evaluation, Returns
from policygrad.policies.agent import Agent, check_spaces
from policygrad.rollout.engines import Engine

VIDEOS = 3  # of each way of acting


def evaluate_agent(
    agent: Agent,
    own: Place,
    env: Any = None,
    *,
    env_kwargs: dict[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    observation_noise: Any = 0.0,
    episodes: int = 100,
    seed: int = 0,
    max_episode_steps: int | None = None,
    num_envs: int = 32,
    engine: Engine | None = None,
    video: str | Path | None = None,
) -> Evaluation:
    """Deterministic and stochastic returns of an agent, with intervals.

    Args:
        agent: the policy and its spaces.
        own: where it was trained, as far as that is known; taken for what is None.
        env, env_kwargs, wrappers, observation_noise, episodes, seed, max_episode_steps, num_envs,
        engine, video: as of `policygrad.evaluate`.

    Raises:
        UserError, NonFiniteError: as of `policygrad.evaluate`.
    """
    for name, value, least in (
        ("episodes", episodes, 1), ("num_envs", num_envs, 1), ("seed", seed, 0),
        ("max_episode_steps", 1 if max_episode_steps is None else max_episode_steps, 1),
    ):  # fmt: skip
        check_whole(name, value, least)
    free_compiled_code()
    place = asked_for(own, env, env_kwargs, engine)
    # training draws from the seed itself
    key = jax.random.fold_in(jax.random.key(seed), 0x5EED)

    def returns(place: Place, lanes: int, ways: Sequence[str]) -> list[Returns]:
        with place.opened(lanes, observation_noise) as source:
            check_spaces(agent, source)
            limit = longest_episode(max_episode_steps, source.time_limit)
            play = partial(source.play, agent.policy, key, episodes=episodes, max_steps=limit)
            return [Returns.of(play(greedy=way == "deterministic"), way) for way in ways]

    found: list[Returns] = []
    if video is None:
        inside, lanes = place.inside(wrappers), min(num_envs, episodes)
        for ways in [[way] for way in WAYS] if wrappers else [WAYS]:  # a wrapper may keep a state
            found += returns(inside, lanes, ways)
    else:
        for way, filmed in place.filmed(wrappers, user_path(video), min(VIDEOS, episodes)):
            found += returns(filmed, 1, [way])
    return Evaluation(
        *found, seed=seed, env=environments.describe(place.env), env_kwargs=place.kwargs,
        wrappers=[name_of(wrapper) for wrapper in wrappers], observation_noise=observation_noise,
    )  # fmt: skip


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise UserError unless a value is a whole number of at least `least`, below 2³¹."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"{flag(name)} must be a whole number, got {value!r}")
    if not least <= int(value) < 2**31:
        most = "" if int(value) < least else f" and at most {2**31 - 1}"
        raise UserError(f"{flag(name)} must be at least {least}{most}, got {value}")
