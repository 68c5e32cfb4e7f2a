"""What an estimator must be: numbers in range, and parts that go together."""

from policygrad.core import checks
from policygrad.gradients import baselines
from policygrad.gradients.baselines.base import Baseline, Critic
from policygrad.gradients.forms import LambdaReturn, TotalReturn, innermost
from policygrad.gradients.groups.estimator import GroupEstimator
from policygrad.gradients.weights import Estimator


def checked(estimator: Estimator) -> Estimator:
    """The estimator; ValueError if a number is out of range or the critic cannot bootstrap."""
    checks.unit_interval("discount", estimator.discount)
    if isinstance(form := innermost(estimator.form), LambdaReturn):
        checks.unit_interval("gae_lambda", form.gae_lambda)
    for name in ("discounted_states", "normalise_advantages"):
        checks.flag(name, getattr(estimator, name))
    for name in ("baseline", "critic"):
        value = getattr(estimator, name)
        if value is not None and not isinstance(value, Baseline):
            raise ValueError(
                f"{name} must be a Baseline, such as policygrad.baselines.value_network(), got "
                f"{value!r}"
            )
    checks.one_of("time_limit", estimator.time_limit, ("bootstraps", "terminates"))
    if estimator.group is not None:
        _check_group(estimator)
    if estimator.critic is None and estimator.time_limit == "bootstraps":
        raise ValueError(
            f"time_limit='bootstraps' needs a critic, and {estimator.form} was given none; pass "
            "critic=value_network(), or time_limit='terminates'"
        )
    if estimator.critic is not None and not (
        isinstance(estimator.critic, Critic) and estimator.critic.may_bootstrap
    ):
        raise ValueError(
            f"{type(estimator.critic).__name__} cannot bootstrap: it does not estimate the value "
            "of a state; pass it as baseline, and value_network() or linear_features() as critic"
        )
    return estimator


def _check_group(estimator: Estimator) -> None:
    group = estimator.group
    if not isinstance(group, GroupEstimator):
        raise ValueError(
            f"group must be a group estimator, such as policygrad.gradients.groups.rloo(), got "
            f"{group!r}"
        )
    if "values" in group.reads:
        raise ValueError(
            f"{type(group.baseline).__name__} reads a value of each group's state, which is not "
            "collected; choose another group estimator, such as rloo()"
        )
    plain = isinstance(estimator.form, TotalReturn) and estimator.baseline == baselines.none()
    if not plain or estimator.critic is not None or estimator.normalise_advantages:
        raise ValueError(
            "a group estimator weighs total returns by itself, without another baseline, a critic "
            "or normalise_advantages; make it by estimators.in_groups(group)"
        )
