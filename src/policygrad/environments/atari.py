"""Atari games, by EnvPool or by ale-py, with one standard preprocessing.

Both engines read their pictures and their rewards alike: grey pictures of 84×84 pixels, the last
four of them together, one action for four frames, up to 30 idle frames at the start of an episode.
These values stand in `config.json` as the arguments of the environment, whoever steps it. Rewards
are the game's own: training looks at their signs (`clip_rewards`), and evaluation counts the score.
"""

import contextlib
import importlib
import importlib.util
import sys
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from policygrad.core import checks
from policygrad.core.errors import UserError
from policygrad.environments.arguments import not_taken
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.names import nearest, refuse_what_steps_itself, require_extra
from policygrad.environments.replay import lane_seeds

NAMESPACE = "ALE"

# of Mnih et al. 2015, in EnvPool's words; 27,000 actions are half an hour of play
PREPROCESSING: dict[str, Any] = {
    "img_height": 84,
    "img_width": 84,
    "gray_scale": True,
    "stack_num": 4,
    "frame_skip": 4,
    "noop_max": 30,
    "use_fire_reset": True,
    "episodic_life": False,
    "repeat_action_probability": 0.0,
    "full_action_space": False,
    "max_episode_steps": 27_000,
}
OF_ALE = {  # the same in ale-py's words
    "gray_scale": "grayscale",
    "frame_skip": "frameskip",
}


def is_atari(env: Any) -> bool:
    """Whether an id, with the engine before it, is that of an Atari game."""
    if not isinstance(env, str):
        return False
    engine, _, name = env.partition("/")
    if engine == NAMESPACE:
        return True
    return engine == "envpool" and _is_of_envpool(name)


@cache
def _is_of_envpool(name: str) -> bool:
    if importlib.util.find_spec("envpool") is None:
        return False
    library = importlib.import_module("envpool")
    if name not in library.list_all_envs():
        return False
    return "noop_max" in library.make_spec(name).config._fields


def with_preprocessing(env: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an environment, with the standard preprocessing of an Atari game.

    Args:
        env: an id with its engine, or anything else.
        kwargs: as the user gave them; they come first.

    Raises:
        UserError: a value out of range, a name of ale-py for one of `PREPROCESSING`, or
            `reward_clip`, which evaluation would see too.
    """
    if not is_atari(env):
        return kwargs
    for name, value in kwargs.items():
        _check(env, name, value)
    if kwargs.get("reward_clip"):
        raise UserError(
            "reward_clip would clip the score of evaluation too; leave it out: training looks at "
            "the signs of rewards by itself, and --no-clip-rewards leaves them as they are"
        )
    return {**PREPROCESSING, **kwargs}


def _check(env: str, name: str, value: Any) -> None:
    """UserError for a value that the engines would take, and then stop or end the process."""
    ours = next((ours for ours, theirs in OF_ALE.items() if theirs == name), None)
    if ours is not None:
        raise UserError(f"{env} takes {ours} in place of {name}, whichever engine plays it")
    if name in PREPROCESSING:
        try:
            _CHECKS[type(PREPROCESSING[name])](name, value)
        except ValueError as error:
            raise UserError(f"{env}: {error}") from error


_CHECKS = {bool: checks.flag, int: checks.whole, float: checks.unit_interval}


def of_evaluation(env: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments for whole games: an episode does not end with a life."""
    by_life = is_atari(env) and kwargs.get("episodic_life")
    return {**kwargs, "episodic_life": False} if by_life else kwargs


def make_ale(
    name: str,
    num_envs: int,
    *,
    processes: bool = False,
    kwargs: dict[str, Any] | None = None,
    first_lane: int = 0,
    step_timeout: float | None = None,
) -> GymnasiumLanes:
    """B lanes of one game of ale-py, which cannot be brought back to where they were.

    Args:
        name: such as `Pong-v5`.
        num_envs: B.
        processes, step_timeout: refused; ale-py has its own threads, which nothing interrupts.
        kwargs: as in `PREPROCESSING`, or further ones of `ale_py.AtariVectorEnv`.
        first_lane: the number of the first lane; seeds follow from it.

    Raises:
        UserError: ale-py is not installed, has no such game, or does not take these arguments.
    """
    refuse_what_steps_itself(f"{NAMESPACE}/{name}", processes, step_timeout)
    require_extra("ale_py", f"{NAMESPACE}/{name}", "atari")
    known = games()
    if name not in known:
        raise UserError(
            f"unknown environment {NAMESPACE}/{name}{nearest(name, list(known), 'ALE/')}"
        )
    given = with_preprocessing(f"{NAMESPACE}/{name}", kwargs or {})
    vector = AtariVector(known[name], name, num_envs, given, first_lane)
    return GymnasiumLanes(vector, given["max_episode_steps"], replays=False)


@cache
def games() -> dict[str, str]:
    """The ids of the games, and their names in ale-py: `SpaceInvaders-v5` -> `space_invaders`."""
    roms = sorted(importlib.import_module("ale_py.roms").get_all_rom_ids())
    return {"".join(word.capitalize() for word in rom.split("_")) + "-v5": rom for rom in roms}


class AtariVector(VectorEnv):
    """B copies of one game, stepped by ale-py's threads.

    Args:
        game: its name in ale-py.
        name: its id, for errors.
        num_envs: B.
        kwargs: as in `PREPROCESSING`.
        first_lane: the number of the first lane; seeds follow from it.

    Attributes:
        reads_infos: what `step` returns as info are `environments.infos.Infos`.

    Raises:
        UserError: ale-py does not take these arguments, or the ROM is missing.
    """

    reads_infos = True

    def __init__(
        self, game: str, name: str, num_envs: int, kwargs: dict[str, Any], first_lane: int = 0
    ) -> None:
        given = {OF_ALE.get(key, key): value for key, value in kwargs.items()}
        steps = given.pop("max_episode_steps")
        made = importlib.import_module("ale_py.vector_env").AtariVectorEnv
        try:
            # it prints where ROMs come from
            with contextlib.redirect_stdout(sys.stderr):
                self._vector = made(
                    game,
                    num_envs,
                    max_num_frames_per_episode=steps * given["frameskip"],
                    reward_clipping=False,
                    autoreset_mode=AutoresetMode.NEXT_STEP,
                    **given,
                )
        except OSError as error:
            raise UserError(f"the ROM of {NAMESPACE}/{name} is missing: {error}") from error
        except (TypeError, ValueError, RuntimeError, gymnasium.error.Error) as error:
            raise UserError(not_taken(f"{NAMESPACE}/{name}", kwargs, str(error))) from error
        self.num_envs, self._first_lane = num_envs, first_lane
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space: spaces.Space = self._vector.single_observation_space
        self.single_action_space: spaces.Space = self._vector.single_action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:  # consecutive ones would be shared by runs with consecutive seeds
            seeds = lane_seeds(seed, self._first_lane, self.num_envs)
            seed = np.array(seeds, np.int64) >> 1
        observations, _ = self._vector.reset(seed=seed)
        return observations, {}

    def step(self, actions: Any) -> Any:
        *row, info = self._vector.step(np.asarray(actions, np.int64))
        return *row, {"lives": (np.asarray(info["lives"], float), np.ones(self.num_envs, bool))}

    def close_extras(self, **kwargs: Any) -> None:
        self._vector.close()
