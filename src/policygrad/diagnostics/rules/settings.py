"""A run's settings as the rules read them. No other module of the rules knows their names."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policygrad.algorithms import Algorithm
from policygrad.diagnostics.examination import Examination
from policygrad.policies.space_policy import USUAL_LOG_STD

USUAL_CRITIC_STEP_SIZE = 1e-3
USUAL_CRITIC_EPOCHS = 10
USUAL_DISCOUNT = 0.99
USUAL_LAMBDA = 0.95


@dataclass(frozen=True)
class Settings:
    """Settings of a run, and which of its parts they do not describe.

    Attributes:
        values: by name; a setting that nothing reads is not among them.
        passed_as_objects: as in `Examination`.
        algorithm: its record; None if it is not known.
    """

    values: Mapping[str, Any]
    passed_as_objects: tuple[str, ...]
    algorithm: Algorithm | None

    @classmethod
    def of(cls, e: Examination) -> "Settings":
        """The settings of an examined run."""
        return cls(e.settings, e.passed_as_objects, e.algorithm)

    def __getitem__(self, name: str) -> Any:
        """A setting; None if nothing reads it."""
        return self.values.get(name)

    def describes(self, part: str) -> bool:
        """Whether a part was made from the settings, and not passed as an object."""
        return part not in self.passed_as_objects

    @property
    def log_std(self) -> float | None:
        """The initial log standard deviation, of `shared` the greatest that it may be; None if
        nothing reads it."""
        asked = self["log_std"]
        return USUAL_LOG_STD if asked == "shared" else asked

    # of the algorithm, which its record tells

    def of_algorithm(self, name: str) -> Any:
        """A number of the algorithm's record; None if it has none of this name."""
        return getattr(self.algorithm, name, None)

    def usual(self, name: str) -> float | None:
        """The default of a number of the algorithm's record; None if it has none, or if it is 0."""
        fields = () if self.algorithm is None else dataclasses.fields(self.algorithm)
        default = next((f.default for f in fields if f.name == name), None)
        return float(default) if default else None  # pyright: ignore[reportArgumentType]

    @property
    def sized_by_kl(self) -> bool:
        """Whether the KL of a step is set, and its length follows."""
        return self.algorithm is not None and self.algorithm.sized_by_kl

    @property
    def own_steps(self) -> bool:
        """Whether an optimiser that was passed takes steps of its own: no step size is read."""
        return not self.describes("optimiser") and self["step_size"] is None

    @property
    def adapts_step(self) -> bool:
        """Whether the step size follows the KL of the updates."""
        fixed = self.sized_by_kl or self.own_steps
        return not fixed and bool(self.of_algorithm("target_kl"))

    @property
    def entropy_coefficient(self) -> float:
        """Weight of the entropy bonus; 0 if the algorithm is not known."""
        return float(self.of_algorithm("entropy_coefficient") or 0.0)

    @property
    def minibatch_steps(self) -> int:
        """Steps of an update, for an algorithm that makes many with each batch; else 0."""
        epochs, parts = self.of_algorithm("epochs"), self.of_algorithm("minibatches")
        return int(epochs * parts) if epochs and parts else 0

    def advice(self, name: str, value: float, given: float) -> str:
        """How to set a number of the algorithm's record."""
        if self.describes("algorithm"):
            return f"Train with --{name.replace('_', '-')} {value:g} in place of {given:g}"
        return f"Give {type(self.algorithm).__name__} {name}={value:g} in place of {given:g}"

    # of estimator and critic

    @property
    def bootstraps(self) -> bool:
        """Whether the estimator of the settings needs a critic."""
        return self.describes("estimator") and self["estimator"] in ("gae", "td", "n-step")

    @property
    def value_network(self) -> bool:
        """Whether a value network is fitted to returns, with the settings of its fit."""
        return self["critic_step_size"] is not None

    @property
    def limit_terminates(self) -> bool:
        """Whether a time limit counts as the end of the task by an explicit setting."""
        return self["time_limit"] == "terminates"

    @property
    def resets_at_rewards(self) -> bool:
        """Whether returns end at every reward, so that the length of an episode says nothing of how
        far they reach."""
        return bool(self["resets_at_rewards"])

    @property
    def effective_lambda(self) -> tuple[float, str] | None:
        """λ, or what corresponds to it, and the setting that it follows from; None without one."""
        if not self.bootstraps:
            return None
        match self["estimator"]:
            case "gae":
                x = float(self["gae_lambda"])
                return x, f"--gae-lambda is {x:g}"
            case "td":
                return 0.0, "--estimator is td, which is λ = 0"
        n = int(self["n"])
        return 1 - 1 / n, f"--estimator is n-step with --n {n}, about λ = {1 - 1 / n:.2g}"

    @property
    def horizon(self) -> float:
        """1/(1 − γ), steps."""
        discount = float(self["discount"])
        return 1 / (1 - discount) if discount < 1 else float("inf")
