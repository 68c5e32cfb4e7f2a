"""Sources: what training, evaluation and diagnostics ask of an environment, and nothing else.

Lanes on the host, EnvPool and JAX-native environments are each a source; so is what an engine of
your own opens.
"""

from typing import Protocol, runtime_checkable

from gymnasium import spaces
from jaxtyping import PRNGKeyArray

from policygrad.environments.protocol import CompiledEnvironment
from policygrad.policies.meeting import Policy
from policygrad.rollout.collectors import Collector
from policygrad.rollout.play import Played


@runtime_checkable
class Source(Protocol):
    """An environment, as batches and evaluation episodes are drawn from it.

    Attributes:
        observation_space, action_space: of one environment.
        time_limit: steps after which an episode is truncated at the latest; None where not known.
        num_envs: lanes that are stepped together.
        pure: the environment as functions of a state; None where there is no such thing.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    time_limit: int | None
    num_envs: int

    @property
    def pure(self) -> CompiledEnvironment | None:
        """The environment as functions of a state, for what returns to earlier states."""
        ...

    def segments(self, policy: Policy, key: PRNGKeyArray, steps: int) -> Collector:
        """Segments of T steps of the lanes, carried over from batch to batch.

        Args:
            policy: for its structure; `collect` takes one that acts.
            key: of the environments; consumed.
            steps: T.
        """
        ...

    def episodes(
        self,
        policy: Policy,
        key: PRNGKeyArray,
        episodes: int,
        max_steps: int,
        *,
        keep_unfinished: bool = False,
    ) -> Collector:
        """Whole episodes, begun afresh for every batch.

        Args:
            policy, key: as for `segments`.
            episodes: of a batch, where `collect` is not told another number.
            max_steps: cap on an episode's length.
            keep_unfinished: keep an episode that was stopped at the cap, whose last step then has
                no flag; refuse such a batch otherwise.
        """
        ...

    def play(
        self,
        policy: Policy,
        key: PRNGKeyArray,
        *,
        episodes: int,
        max_steps: int,
        greedy: bool,
    ) -> Played:
        """What N episodes come to, all that begin run to their end or to the cap.

        Args:
            policy: acts.
            key: of actions and environments; consumed.
            episodes: N.
            max_steps: cap on an episode's length.
            greedy: act by the distributions' modes in place of samples.
        """
        ...

    def close(self) -> None:
        """Release the environments."""
        ...
