"""A run's settings as the rules read them. No other module of the rules knows their names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from policygrad.diagnostics.examination import Examination

USUAL_BATCH_STEPS = 2048
USUAL_CRITIC_STEP_SIZE = 1e-3
USUAL_CRITIC_EPOCHS = 10
USUAL_DISCOUNT = 0.99
USUAL_LAMBDA = 0.95


class AlgorithmFacts(NamedTuple):
    """What the rules need to know of an algorithm.

    Attributes:
        sized_by_kl: the KL of a step is set, and its length follows.
        adapts_step: the step size follows `target_kl`, if that is not 0.
        minibatches: it makes many steps with each batch.
        step_size, target_kl: its usual settings; None if it has none.
    """

    sized_by_kl: bool = False
    adapts_step: bool = False
    minibatches: bool = False
    step_size: float | None = None
    target_kl: float | None = None


FACTS = {
    "vanilla": AlgorithmFacts(adapts_step=True, step_size=1e-3, target_kl=0.01),
    "natural": AlgorithmFacts(sized_by_kl=True, target_kl=0.03),
    "trpo": AlgorithmFacts(sized_by_kl=True, target_kl=0.03),
    "ppo": AlgorithmFacts(adapts_step=True, minibatches=True, step_size=3e-4),
}


@dataclass(frozen=True)
class Settings:
    """Settings of a run, and which of its parts they do not describe.

    Attributes:
        values: by name, all of them resolved.
        passed_as_objects: as in `Examination`.
    """

    values: Mapping[str, Any]
    passed_as_objects: tuple[str, ...]

    @classmethod
    def of(cls, e: Examination) -> "Settings":
        """The settings of an examined run."""
        return cls(e.settings, e.passed_as_objects)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def describes(self, part: str) -> bool:
        """Whether a part was made from the settings, and not passed as an object."""
        return part not in self.passed_as_objects

    @property
    def algorithm(self) -> str | None:
        """The algorithm's name; None if it was passed as an object."""
        return self["algorithm"] if self.describes("algorithm") else None

    @property
    def facts(self) -> AlgorithmFacts:
        """What is known of the algorithm; nothing of one that was passed as an object."""
        return FACTS.get(self.algorithm or "", AlgorithmFacts())

    @property
    def adapts_step(self) -> bool:
        """Whether the step size follows the KL of the updates."""
        return self.facts.adapts_step and bool(self["target_kl"])

    @property
    def bootstraps(self) -> bool:
        """Whether the estimator of the settings needs a critic."""
        return self.describes("estimator") and self["estimator"] in ("gae", "td", "n-step")

    @property
    def critic_network(self) -> bool:
        """Whether the settings name a value network that is fitted to returns."""
        baseline = self["baseline"] or "value-network"
        return self.bootstraps or (self.describes("estimator") and baseline == "value-network")

    @property
    def limit_terminates(self) -> bool:
        """Whether a time limit counts as the end of the task by an explicit setting."""
        return self["time_limit"] == "terminates"

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
