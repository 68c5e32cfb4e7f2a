"""Whether the critic may be an output of the policy's network, and what is said where not."""

from policygrad.algorithms import Algorithm
from policygrad.core import reflection
from policygrad.core.errors import UserError
from policygrad.core.settings import flag
from policygrad.policies.space_policy import NetworkPolicy
from policygrad.training.built_in import ESTIMATORS, ValueNetworkSettings
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given

SETTINGS = ("shared_trunk", "value_coefficient")
VALUE_COEFFICIENT = 0.5


def check(
    config: TrainConfig, given: Given, algorithm: type[Algorithm], *, suggested: bool
) -> None:
    """Raise UserError where a shared critic was asked for, and there can be none.

    Args:
        config, given: as in `resolve`.
        algorithm: that was chosen.
        suggested: whether the critic is shared though nobody asked for it, or may yet be.
    """
    if not config.shared_trunk:
        if config.value_coefficient is not None and not suggested:
            raise UserError(
                f"--value-coefficient {config.value_coefficient} is read with --shared-trunk; add "
                "it, or leave it out"
            )
        return
    why = why_not(config, given, algorithm)
    if why is not None:
        raise UserError(f"--shared-trunk makes the critic an output of the policy: {why}")


def why_not(config: TrainConfig, given: Given, algorithm: type[Algorithm]) -> str | None:
    """Why the critic cannot be an output of the policy's network; None if it can."""
    if not algorithm.fits_values:
        name = config.algorithm if given.algorithm is None else algorithm.__name__
        return f"--algorithm {name} does not fit values; choose vanilla or ppo"
    policy = given.plain_policy
    if policy is not None and not (isinstance(policy, NetworkPolicy) and policy.valued):
        return "the network of the policy that was passed gives no value; leave one of the two out"
    if given.estimator is not None:
        return "an estimator was passed, which has a critic of its own; leave one of the two out"
    name, baseline = config.estimator or "gae", config.baseline or "value-network"
    if not ESTIMATORS[name].bootstraps or baseline != "value-network":
        beside = f" with --baseline {baseline}" if config.baseline is not None else ""
        return (
            f"--estimator {name}{beside} has no value network as its critic; "
            "choose gae, td or n-step, with the baseline value-network"
        )
    if config.memory is not None:
        return f"--memory {config.memory} gives the critic a memory of its own; leave one out"
    own = config.given.keys() & reflection.names_of(ValueNetworkSettings)
    if own:
        return f"{flag(min(own))} is read by a critic with a network of its own; leave one out"
    return None
