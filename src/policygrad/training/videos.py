"""Videos of a run as it goes on: one episode of the policy as it is then."""

import warnings
from typing import Any

from policygrad.core.errors import PolicygradError, UserError
from policygrad.core.settings import Count, In, did_you_mean, plain_value
from policygrad.evaluating import ARGUMENTS_OF_WATCH, check_watching, watch
from policygrad.training.config import TrainConfig
from policygrad.training.ongoing import Callback, Ongoing

FOLDER = "videos"
NO_DIRECTORY = "videos are written into the run directory, and there is none: give out= too"


class video:
    """Film an episode every so many environment steps, in an environment of its own.

    The file is `videos/step-STEPS.mp4` in the run directory. Training does not notice. A film that
    fails in mid-run is a warning.

    Args:
        every: environment steps between two videos.
        kwargs: further arguments of `policygrad.watch`, such as deterministic or max_episode_steps.
    """

    example = "callbacks.video(100_000)"

    def __init__(self, every: int, **kwargs: Any) -> None:
        every = plain_value(Count, every)
        if every not in In(1) or not isinstance(every, int):
            raise UserError(f"video takes at least 1 step between two videos, got {every!r}")
        known = set(ARGUMENTS_OF_WATCH) - {"run", "out", "seed"}
        for name in kwargs.keys() - known:
            near = did_you_mean(name, known) or f"; there are {', '.join(sorted(known))}"
            raise UserError(f"video takes no argument {name!r}{near}")
        self.every, self.kwargs, self._done = every, kwargs, 0

    def begin(self, run: Ongoing) -> None:
        """Count from where the run begins or goes on; UserError where nothing can be filmed."""
        if run.path is None:
            raise UserError(NO_DIRECTORY)
        self._check(run)
        self._done = run.env_steps // self.every

    def _check(self, run: Ongoing) -> None:
        if self.kwargs.get("env") is None:
            check_watching(run.place)

    def __call__(self, run: Ongoing) -> None:
        if run.env_steps // self.every <= self._done:
            return
        self._done = run.env_steps // self.every
        assert run.path is not None
        out = run.path / FOLDER / f"step-{run.env_steps}.mp4"
        try:
            watch(run, out=out, seed=run.own_seed, **self.kwargs)
        except PolicygradError as error:
            warnings.warn(f"no video of step {run.env_steps:,}: {error}", stacklevel=2)


class _VideoOfSettings(video):
    """The same; whether anything can be filmed was checked where the run was put together."""

    def _check(self, run: Ongoing) -> None:
        pass


def videos_of(config: TrainConfig) -> tuple[Callback, ...]:
    """The callback that a run's settings ask for, if they do."""
    return (_VideoOfSettings(config.video_every),) if config.video_every else ()
