"""Which library wrote a log: it is known by the names of its columns."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from policygrad.core.errors import UserError
from policygrad.diagnostics.language import METRICS, OTHER, Language
from policygrad.diagnostics.libraries import CLEANRL, RLLIB, RSL_RL, SB3_A2C, SB3_PPO, TRL, VERL
from policygrad.logs.table import Column, Table

# a library is known by any of these columns; the first that fits counts
BY_MARK = (
    (SB3_PPO, ("train/approx_kl", "train/kl_divergence_loss", "train/clip_fraction")),
    (SB3_A2C, ("train/entropy_loss", "train/policy_loss")),
    (CLEANRL, ("charts/episodic_return", "losses/approx_kl", "charts/SPS")),
    (RLLIB, ("env_runners/episode_return_mean", "episode_reward_mean",
             "env_runners/episode_reward_mean", "sampler_results/episode_reward_mean",
             "num_env_steps_sampled_lifetime")),
    (RSL_RL, ("Train/mean_reward", "Policy/mean_noise_std", "Loss/surrogate")),
    (VERL, ("critic/score/mean", "actor/pg_loss", "critic/rewards/mean")),
    (TRL, ("reward_std", "train/reward_std", "frac_reward_zero_std", "completions/mean_length")),
    (SB3_PPO, ("rollout/ep_rew_mean", "monitor/r")),
)  # fmt: skip
NO_POLICY_GRADIENT = ("rollout/exploration_rate", "train/actor_loss", "train/ent_coef_loss")
BEFORE = ("ray/tune/", "data/")  # that some writers put before every name


def plain(table: Table) -> Table:
    """The table without what some writers put before every name."""

    def stripped(name: str) -> str:
        return next((name.removeprefix(b) for b in BEFORE if name.startswith(b)), name)

    return replace(table, columns={stripped(name): x for name, x in table.columns.items()})


def recognised(columns: Iterable[str]) -> Language:
    """The library that a log is of.

    Raises:
        UserError: none that is known, or an algorithm that follows no policy gradient.
    """
    there = set(columns)
    for language, marks in BY_MARK:
        if there & set(marks):
            other = sorted(there & set(NO_POLICY_GRADIENT))
            if other and language.name.startswith("Stable"):
                raise UserError(
                    f"the log has {other[0]}, which DQN, SAC, TD3 and their kin write; the doctor "
                    "knows policy gradients on fresh episodes (PPO, A2C, TRPO)"
                )
            return language
    shown = ", ".join(sorted(there)[:6])
    raise UserError(
        f"no library is recognised by its columns ({shown}, …); name them: --columns "
        f"return_mean=NAME,kl=NAME; what is read are {', '.join(METRICS)}"
    )


SHORT = {"return": "return_mean", "length": "length_mean", "steps": "env_steps",
         "explained_variance": "explained_variance_before", "value_loss": "value_error",
         "std": "action_std", "learning_rate": "step_size"}  # fmt: skip


def mapped(table: Table, columns: Mapping[str, str]) -> Language:
    """A library of the user's own, by which columns hold what.

    Raises:
        UserError: a name that is not read, or a column that is not there.
    """
    metrics = {}
    for ours, theirs in columns.items():
        name = SHORT.get(ours, ours)
        if name not in METRICS:
            known = ", ".join([*SHORT, *(m for m in METRICS if m not in SHORT.values())])
            raise UserError(f"--columns {ours}={theirs}: {ours} is not read; those are {known}")
        if theirs not in table.columns:
            raise UserError(
                f"--columns {ours}={theirs}: the log has no column {theirs!r}; it has "
                f"{', '.join(sorted(table.columns))}"
            )
        metrics[name] = (theirs,)
    return replace(OTHER, name="columns named by --columns", metrics=metrics)


def column(table: Table, language: Language, name: str) -> Column | None:
    """The numbers that the library logs for one of our names, in our unit, or None."""
    for theirs in language.metrics.get(name, ()):
        found = table.columns.get(theirs)
        if found is not None:
            factor = language.factors.get(theirs, 1.0)
            return Column(found.steps, factor * found.values)
    return None
