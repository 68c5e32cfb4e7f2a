"""Where an agent is evaluated: an environment, and how it is opened, wrapped and filmed."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from policygrad import environments
from policygrad.core.errors import UserError
from policygrad.environments.atari import of_evaluation, with_preprocessing
from policygrad.environments.wrapping import Wrapper, wrapped
from policygrad.policies.agent import Agent, check_spaces
from policygrad.rollout.engines import Engine, limit_kept, open_source
from policygrad.rollout.host_source import HostSource
from policygrad.rollout.noise import with_noise
from policygrad.rollout.source import Source
from policygrad.watching import Film, FilmedLanes, Told, open_scene, where_it_is_drawn


class Place(NamedTuple):
    """Where a policy is evaluated, or was trained.

    Attributes:
        env: the environment; None if no file holds it.
        kwargs: its arguments.
        engine: what opens it.
        name: the qualified name of a class or function that is not at hand.
        processes: whether its steps are made in worker processes.
        step_timeout: seconds that a step or a reset may take; None for no limit.
    """

    env: Any
    kwargs: dict[str, Any]
    engine: Engine | None = None
    name: str | None = None
    processes: bool = False
    step_timeout: float | None = None

    def inside(self, wrappers: Sequence[Wrapper]) -> "Place":
        """The same inside of wrappers."""
        if not wrappers:
            return self
        if self.engine is not None:
            raise UserError(
                f"wrappers and videos are for Gymnasium's environments, got engine={self.engine!r}"
            )
        return self._replace(env=wrapped(self.env, self.kwargs, wrappers), kwargs={})

    @contextlib.contextmanager
    def opened(self, num_envs: int, noise: Any) -> Iterator[Source]:
        """The source of episodes, open as long as it is used; the first failure is the one
        reported."""
        kwargs = of_evaluation(self.env, self.kwargs)
        source = open_source(
            self.env, num_envs, engine=self.engine, processes=self.processes, kwargs=kwargs,
            step_timeout=self.step_timeout,
        )  # fmt: skip
        try:
            noisy = np.any(np.asarray(noise, object) != 0)
            yield with_noise(source, noise) if noisy else source
        except BaseException:
            with contextlib.suppress(Exception):
                source.close()
            raise
        source.close()

    def drawn(self) -> "Place":
        """The same with the environment that is drawn in its place; a warning says if it is
        another one."""
        return self if self.engine is not None else self._replace(env=where_it_is_drawn(self.env))

    @contextlib.contextmanager
    def filmed(
        self,
        wrappers: Sequence[Wrapper],
        noise: Any,
        agent: Agent,
        film: Callable[[int, float], Film | None],
        episodes: int,
        tell: Callable[[Told], Any] | None = None,
    ) -> Iterator[Source]:
        """The source of episodes with one environment that is filmed, open as long as it is used.
        A failure leaves no file of the film that is being made.

        Args:
            wrappers: around an environment of Gymnasium.
            noise: on what the policy sees, as of `evaluate`.
            agent: the policy that acts.
            film: (number of an episode, usual pictures a second) -> its film; None for no film.
            episodes: how many there will be.
            tell: told of every step that is filmed.
        """
        scene = open_scene(
            self.env, self.kwargs, engine=self.engine, wrappers=wrappers,
            step_timeout=self.step_timeout,
        )  # fmt: skip
        lanes = scene.lanes
        try:
            check_spaces(agent, lanes)
            if np.any(np.asarray(noise, object) != 0):
                lanes = with_noise(HostSource(lanes), noise).lanes  # pyright: ignore
            lanes = FilmedLanes(
                lanes, scene.picture, agent.policy, lambda i: film(i, scene.fps), episodes, tell
            )
            yield HostSource(lanes)
        except BaseException:
            with contextlib.suppress(Exception):
                if isinstance(lanes, FilmedLanes):
                    lanes.discard()
                lanes.close()
            raise
        lanes.close()


def asked_for(
    own: Place,
    env: Any,
    env_kwargs: dict[str, Any] | None,
    engine: Engine | None,
    *,
    processes: bool = False,
    step_timeout: float | None = None,
) -> Place:
    """Where to evaluate: what was asked for, and the agent's own for what was not.

    Args:
        own: where the agent was trained, as far as that is known.
        env, env_kwargs, engine, processes, step_timeout: as of `policygrad.evaluate`.
    """
    if env is None and own.env is None:
        raise UserError(
            f"no environment to evaluate in: {_unnamed(own)}; pass an environment's id "
            "(--env ID), or in Python env=, an id or a function that makes the environment"
        )
    if env is None or (env_kwargs is None and _same(env, own)):
        kwargs = own.kwargs if env_kwargs is None else env_kwargs
        env = env if own.env is None else own.env
        engine = own.engine if engine is None else engine
    else:
        if env_kwargs is None and own.kwargs:
            warnings.warn(
                f"the arguments {own.kwargs} that the run passed to its environment are not passed "
                "to another one; give env_kwargs (--env-kwargs) to pass some, {} for none",
                stacklevel=3,
            )
        kwargs = env_kwargs or {}
        env = environments.choose_engine(env, processes=processes, kwargs=kwargs)
        kwargs = with_preprocessing(env, kwargs)
    if step_timeout is None:
        step_timeout = limit_kept(own.step_timeout, env, engine=engine, processes=processes)
    return Place(env, kwargs, engine, processes=processes, step_timeout=step_timeout)


def _unnamed(own: Place) -> str:
    """Why the environment of a policy is not known."""
    if own.name is None:
        return "the policy does not name one"
    return f"the policy was trained in {own.name}, an object that no file holds"


def _same(env: Any, own: Place) -> bool:
    """Whether an environment is the run's: the same object, id, class or function."""
    name = own.name or environments.qualified_name(own.env)
    return env is own.env or environments.is_that_of(env, own.env, name)


def name_of(value: Any) -> str:
    """The name of a function or class, or of an object's class."""
    return getattr(value, "__name__", type(value).__name__)
