"""What an evaluation found: the returns of a policy, sampled and greedy, with intervals."""

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from policygrad.core.errors import NonFiniteError
from policygrad.maths.intervals import mean_interval
from policygrad.rollout.play import Played

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
WAYS = ("deterministic", "stochastic")


class CutShort(UserWarning):
    """Episodes of an evaluation were stopped at a cap that nobody asked for."""


class InfoMean(NamedTuple):
    """One number of the environment's infos over N episodes.

    Attributes:
        mean: over the episodes that had it, of the newest value of each.
        episodes: how many had it.
    """

    mean: float
    episodes: int


@dataclass(frozen=True)
class Returns:
    """Returns of N evaluation episodes.

    Attributes:
        mean: mean return, in units of reward, undiscounted.
        ci95: 95 % interval of the mean, by Student's t over episodes.
        episodes: N.
        length_mean: mean number of steps.
        unfinished: number of episodes that were stopped at the cap on steps. Their return up to
            there counts.
        returns: the N returns.
        quantiles: of the N returns: level -> return.
        infos: numbers of the environment's infos by name.
    """

    mean: float
    ci95: tuple[float, float]
    episodes: int
    length_mean: float
    unfinished: int
    returns: list[float]
    quantiles: dict[str, float] = field(default_factory=dict)
    infos: dict[str, InfoMean] = field(default_factory=dict)

    @classmethod
    def of(cls, played: Played, way: str) -> "Returns":
        """The statistics of the episodes that were played; errors name the way of acting.

        Raises:
            NonFiniteError: an observation or a reward was NaN or infinite.
        """
        returns = played.returns
        if not np.all(np.isfinite(returns)):
            episode = int(np.argmin(np.isfinite(returns)))
            raise NonFiniteError(
                f"an observation or a reward of the {way} evaluation episode {episode} is NaN or "
                "infinite, or an action mask in it permits no action"
            )
        mean, interval = mean_interval(returns)
        infos = {
            name: InfoMean(float(np.nanmean(values)), int(np.sum(~np.isnan(values))))
            for name, values in getattr(played, "infos", {}).items()
            if not np.all(np.isnan(values))
        }
        return cls(
            mean,
            interval,
            len(returns),
            float(np.mean(played.lengths)),
            int(np.sum(played.unfinished)),
            returns.tolist(),
            {f"{level:g}": float(np.quantile(returns, level)) for level in LEVELS},
            infos,
        )


@dataclass(frozen=True)
class Evaluation:
    """A policy's returns, greedy and sampled; both begin from one seed.

    Attributes:
        deterministic: acting by the distribution's mode.
        stochastic: acting by samples.
        seed: all randomness follows from it.
        env: the environment's name.
        env_kwargs: the arguments that it was made with.
        wrappers: names of the wrappers around it.
        observation_noise: standard deviation of the noise on observations; 0 for none.
    """

    deterministic: Returns
    stochastic: Returns
    seed: int
    env: str | None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: list[str] = field(default_factory=list)
    observation_noise: Any = 0.0

    def warn_of_cap(self, cap: int) -> None:
        """Warn of episodes that were stopped at a cap on steps that nobody asked for."""
        if self.deterministic.unfinished or self.stochastic.unfinished:
            warnings.warn(
                f"episodes were still running after {cap:,} steps and were stopped "
                "there; their return up to there counts "
                "(`unfinished` says how many), so that mean and interval are not those of whole "
                "episodes; give max_episode_steps (--max-episode-steps) another cap, or the "
                "environment a time limit",
                CutShort,
                stacklevel=3,
            )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        for way in WAYS:
            infos = getattr(self, way).infos
            data[way]["infos"] = {name: info._asdict() for name, info in infos.items()}
        data["observation_noise"] = np.asarray(self.observation_noise).tolist()
        return data
