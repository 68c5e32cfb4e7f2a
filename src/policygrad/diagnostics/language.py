"""The words of another library: what it calls the numbers it logs, and the settings it takes.

Names on the left are this library's. `value_error` is the mean square of return minus value, and
`action_std` the standard deviation of a Gaussian policy in the action's own unit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

METRICS = {
    "return_mean": "the mean return of episodes",
    "length_mean": "the mean length of episodes",
    "env_steps": "environment steps",
    "kl": "KL(old ‖ new) of each update",
    "clip_fraction": "the share of clipped ratios",
    "entropy": "the policy's entropy",
    "explained_variance_before": "the critic's explained variance",
    "value_error": "the critic's loss",
    "action_std": "the standard deviation of the actions",
    "gradient_norm": "the norm of the gradient",
    "step_size": "the learning rate",
    "groups_without_spread": "the share of groups whose rewards are all equal",
    "loss": "the loss",
    "reference_kl": "the KL to the reference model",
}
SETTINGS = {
    "discount": "the discount γ",
    "gae_lambda": "GAE's λ",
    "entropy_coefficient": "the weight of the entropy bonus",
    "critic_coefficient": "the weight of the critic's loss",
    "batch_steps": "steps of a batch",
    "rollout_steps": "steps of each environment in a batch",
    "max_global_norm": "the greatest norm of the gradient",
}


@dataclass(frozen=True)
class Language:
    """A library, in its own words.

    Attributes:
        name: of the library, and of the algorithm where they differ.
        metrics: our name -> its names of the same number; the first that is logged counts.
        settings: our name -> its names; the first is what advice says.
        factors: its name -> what turns its number into ours, where they differ.
        windows: its name of the mean return -> over how many of the newest episodes it is a mean,
            where that is not those of the row.
        form: how it is given a setting: a format of name and value.
        phrases: our name -> what sets it, for what is no number.
        usual_step_size: its default; None where none is usual.
        lacks: our names of settings that it does not have.
        kl_before_step: whether its KL is taken before each step, so that it is 0 where a batch
            makes one step.
        single_episodes: whether a batch as long as one episode, or shorter, is usual for it.
        nan_without_episodes: whether it logs NaN for the mean return of no episodes.
        axis_counts_steps: whether its event files are written over environment steps, and not over
            updates.
    """

    name: str
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    windows: Mapping[str, int] = field(default_factory=dict)
    form: str = "{name}={value}"
    phrases: Mapping[str, str] = field(default_factory=dict)
    usual_step_size: float | None = None
    lacks: tuple[str, ...] = ()
    kl_before_step: bool = False
    single_episodes: bool = False
    nan_without_episodes: bool = False
    axis_counts_steps: bool = False

    def word(self, name: str) -> str:
        """What it calls a setting; in plain words where it has no name for it.

        >>> Language("a", settings={"discount": ("gamma",)}).word("discount")
        'gamma'
        >>> OTHER.word("discount")
        'the discount γ'
        """
        names = self.settings.get(name)
        return names[0] if names else SETTINGS.get(name) or METRICS.get(name) or name

    def give(self, name: str, value: float) -> str:
        """How it is given a value of a setting.

        >>> Language("a", settings={"discount": ("gamma",)}).give("discount", 0.99)
        'gamma=0.99'
        """
        if name not in self.settings:
            return f"{self.word(name)} at {value:g}"
        word = self.settings[name][0]
        word = word.replace("_", "-") if self.form.startswith("--") else word
        return self.form.format(name=word, value=f"{value:g}")

    def phrase(self, name: str) -> str:
        """What sets something that is no number."""
        return self.phrases.get(name) or OTHER.phrases[name]

    def logged_as(self, name: str) -> str:
        """What it logs a number as, or what the number is."""
        names = self.metrics.get(name)
        what = METRICS.get(name) or SETTINGS.get(name) or name
        if names:
            return f"{what} ({names[0]})"
        return f"{what} ({self.settings[name][0]})" if name in self.settings else what


OTHER = Language(
    "no library that is known",
    phrases={
        "scale_rewards": "divide the rewards by the size of the return",
        "log_std": "begin with a standard deviation of about half the actions' range",
    },
)
