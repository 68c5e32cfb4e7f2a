"""What the settings of the built-in algorithms usually are, for advice."""

from policygrad.algorithms import PPO, TRPO, Natural, Vanilla

DEFAULTS = {
    name: {field: getattr(record, field, None) for field in ("target_kl", "step_size")}
    for name, record in (
        ("vanilla", Vanilla()), ("natural", Natural()), ("trpo", TRPO()), ("ppo", PPO()),
    )
}  # fmt: skip
