"""What fresh episodes with a policy say about it and about its environment."""

from dataclasses import dataclass

import numpy as np

from policygrad.diagnostics.spread import Spread


@dataclass(frozen=True)
class Sample:
    """N fresh episodes with the newest policy; observations and rewards are raw.

    Attributes:
        episodes, steps: N, and transitions in all of them.
        unfinished: episodes that were stopped at the cap on steps.
        returns: of the undiscounted returns.
        lengths: of the lengths, in steps.
        rewards: of the rewards of single steps.
        rewards_not_finite: how many are NaN or infinite.
        discounted_size: root mean square of the discounted return to go, over steps.
        observation_components: how many numbers the policy sees; one-hot parts count as one.
        constant_components: how many of them never change.
        observation_size: the root mean squares of the components that change.
        observations_not_finite: how many numbers are NaN or infinite.
        truncated: share of the episodes that ended by truncation.
        entropy: mean over steps, nats.
        greatest_entropy: the logarithm of the number of actions; NaN for continuous actions.
        action_noise: root mean square of sampled minus most probable action, in half ranges of the
            bounds; NaN for discrete actions.
        action_components: how many numbers an action has that are not choices.
        off_mode: share of the steps whose action is not the most probable one.
        at_bounds: share of action components that reach the environment at a bound.
        mean_at_bounds: the same share for the most probable actions.
        critic_explains: explained variance of the discounted return to go by the newest critic (or
            baseline); NaN without one.
        returns_vary: standard deviation of the same returns to go, divided by their root mean
            square. If it is small there is nothing to explain.
        masks_without_action: how many action masks permit no action.
    """

    episodes: int
    steps: int
    unfinished: int
    returns: Spread
    lengths: Spread
    rewards: Spread
    rewards_not_finite: int
    discounted_size: float
    observation_components: int
    constant_components: int
    observation_size: Spread
    observations_not_finite: int
    truncated: float
    entropy: float
    greatest_entropy: float
    action_noise: float
    action_components: int
    off_mode: float
    at_bounds: float
    mean_at_bounds: float
    critic_explains: float = np.nan
    returns_vary: float = np.nan
    masks_without_action: int = 0

    @property
    def sound(self) -> bool:
        """Whether the environment returned no NaN and no infinity."""
        return self.rewards_not_finite == 0 and self.observations_not_finite == 0
