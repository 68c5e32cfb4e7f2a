"""What the doctor looks at: settings, metrics, and measurements of fresh episodes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Float

from policygrad.algorithms import Algorithm
from policygrad.core.failures import Failure
from policygrad.core.plain import to_json
from policygrad.diagnostics.allocating import Allocation
from policygrad.diagnostics.comparison import Comparison
from policygrad.diagnostics.decomposition import DecomposedVariance
from policygrad.diagnostics.groups import NoiseInGroups
from policygrad.diagnostics.language import Language
from policygrad.diagnostics.noise import GradientNoise
from policygrad.diagnostics.sample import Sample
from policygrad.diagnostics.standing import Beside


@dataclass(frozen=True)
class Logged:
    """What only the log of another library says.

    Attributes:
        files: that were read.
        not_finite: name -> how often NaN or infinity was logged, where it means a failure.
        rows: U.
        returns: `[N]`, of single episodes; None if they were not logged. Not part of the JSON.
        window: over how many of the newest episodes the mean return of a row is taken; None if it
            is over those of the row. Not part of the JSON.
    """

    files: tuple[str, ...]
    not_finite: Mapping[str, int]
    rows: int
    returns: Float[np.ndarray, " N"] | None = field(default=None, metadata={"json": False})
    window: int | None = field(default=None, metadata={"json": False})


@dataclass(frozen=True)
class Origin:
    """What is known of how the files came about that were examined.

    Attributes:
        written: when the metrics were last written; None if that is not known.
        versions: program -> version, of what trained.
        env_kwargs: arguments of the environment.
        given: names of the settings that were given, while all others had their defaults; None if
            that is not known.
        schedules: names of the settings that changed while the run went on.
    """

    written: datetime | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] | None = None
    schedules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examination:
    """Everything that the rules look at.

    Attributes:
        env: the environment's name; None for an object.
        settings: of the run by name, as in `TrainConfig`.
        passed_as_objects: which of policy, estimator, optimiser and env were passed as objects, so
            that the settings do not describe them.
        metrics: name -> `[U]`, one number an update; NaN where an update had none.
        algorithm: the record of the run's algorithm; None if it was passed as an object to the run
            and not to the doctor. Not part of the JSON.
        env_steps: steps trained.
        failure: why training stopped by itself; None if it did not.
        time_limit: of the environment, steps.
        sample: measured on fresh episodes; None if the environment could not be run.
        at_random: episodes of random actions; None if they were not played.
        by_mode: episodes of the policy's most probable actions; None if they were not played.
        noise: of the gradient of one episode, by the run's estimator; None if not measured.
        groups: the noise between and within groups, of a run whose episodes start in groups; None
            of any other.
        comparison: the run's estimator ("in use") and others, for the batch in use. Among them are
            rewards to go with the run's baseline ("with baseline") and without ("without
            baseline").
        decomposition: the variance by steps and parameters; None if it was not asked for.
        allocation: what a batch would gain by spreading its episodes over the start states in
            another way; None if they cannot be told apart.
        predicted_returns: returns to go of all steps, and the baseline's predictions of them; None
            if they were not asked for, or without a baseline. Not part of the JSON.
        notes: what could not be looked at, and why.
        language: of the library whose log this is; None for a run of this one's. Not part of the
            JSON, which holds its name as `library`.
        logged: what only a log says; None for a run of this library.
        origin: how the files came about. Not part of the JSON.
    """

    env: str | None
    settings: Mapping[str, Any]
    passed_as_objects: tuple[str, ...]
    metrics: Mapping[str, Float[np.ndarray, " U"]]
    algorithm: Algorithm | None = field(default=None, metadata={"json": False})
    env_steps: int = 0
    failure: Failure | None = None
    time_limit: int | None = None
    sample: Sample | None = None
    at_random: Beside | None = None
    by_mode: Beside | None = None
    noise: GradientNoise | None = None
    groups: NoiseInGroups | None = None
    comparison: Comparison | None = None
    decomposition: DecomposedVariance | None = None
    allocation: Allocation | None = None
    predicted_returns: tuple[np.ndarray, np.ndarray] | None = field(
        default=None, metadata={"json": False}
    )
    notes: tuple[str, ...] = field(default=())
    language: Language | None = field(default=None, metadata={"json": False})
    logged: Logged | None = None
    origin: Origin = field(default=Origin(), metadata={"json": False})

    @property
    def updates(self) -> int:
        """How many updates were made."""
        return self.logged.rows if self.logged else len(self.metric("kl"))

    @property
    def batch_steps(self) -> float:
        """Steps of one batch, on average; NaN before the first."""
        return self.env_steps / self.updates if self.updates else float("nan")

    @property
    def batch_episodes(self) -> float:
        """The size of the newest batch, in episodes of mean length; NaN if it is not known."""
        given = self.settings["batch_episodes"]
        if given == "adaptive":
            sizes = self.metric("batch_episodes")
            return float(sizes[-1]) if len(sizes) else float("nan")
        if given:
            return float(given)
        if self.sample is None:
            return float("nan")
        return float(self.settings["batch_steps"]) / max(self.sample.lengths.mean, 1.0)

    @property
    def cut_short(self) -> bool:
        """Whether fresh episodes were stopped where those of training go on.

        Their returns then lack what comes later, and nothing of training compares with them.
        """
        limited = self.time_limit is not None or self.settings.get("max_episode_steps") is not None
        return not limited and self.sample is not None and self.sample.unfinished > 0

    def noted(self, note: str) -> "Examination":
        """The same with a note of what could not be examined."""
        return replace(self, notes=(*self.notes, note))

    def metric(self, name: str) -> Float[np.ndarray, " U"]:
        """A metric, one number an update; empty if it was not recorded."""
        return self.metrics.get(name, np.zeros(0))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found = to_json(self)
        if self.comparison is not None:
            found["comparison"] = self.comparison.to_json()  # with names of estimators
        found["library"] = None if self.language is None else self.language.name
        return found


def series_of(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Lines of metrics as one array for each name; NaN for null and for a missing name."""
    names = {
        name: None for row in rows for name, x in row.items() if not isinstance(x, (str, bool))
    }
    return {
        name: np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float64)
        for name in names
    }
