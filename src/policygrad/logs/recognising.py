"""Which library wrote a log: it is known by the names of its columns."""

import re
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
NO_POLICY_GRADIENT = (
    "rollout/exploration_rate", "train/actor_loss", "train/ent_coef_loss",
    "losses/qf1_loss", "losses/qf_loss", "losses/actor_loss", "losses/alpha", "losses/td_loss",
    "losses/q_values",
)  # fmt: skip
# of RLlib, new stack and old
DEFAULT_POLICY = "default_policy"
POLICY = re.compile(r"(?P<before>learners/|info/learner/)(?P<policy>(?!__)[^/]+)(?P<after>/.+)")
BEFORE = ("ray/tune/", "data/")  # that some writers put before every name


def plain(table: Table) -> Table:
    """The table without what some writers put before every name."""

    def stripped(name: str) -> str:
        return next((name.removeprefix(b) for b in BEFORE if name.startswith(b)), name)

    return replace(table, columns={stripped(name): x for name, x in table.columns.items()})


def one_policy(table: Table) -> tuple[Table, tuple[str, ...]]:
    """RLlib's table with its default policy, or with the first of several in its place; a note."""
    names = [match for name in table.columns if (match := POLICY.match(name))]
    policies = sorted({match["policy"] for match in names})
    if not policies or policies == [DEFAULT_POLICY]:
        return table, ()
    first = DEFAULT_POLICY if DEFAULT_POLICY in policies else policies[0]
    columns = dict(table.columns)
    for match in names:
        if match["policy"] == first:
            columns[match["before"] + DEFAULT_POLICY + match["after"]] = columns[match.string]
    note = f"the policy {first} was read; the log has {', '.join(policies)}"
    return replace(table, columns=columns), (note,)


def recognised(columns: Iterable[str]) -> Language:
    """The library that a log is of.

    Raises:
        UserError: none that is known, or an algorithm that follows no policy gradient.
    """
    there = set(columns)
    language = _marked(there)
    if language is not None:
        other = sorted(there & set(NO_POLICY_GRADIENT))
        if other and language in (SB3_PPO, SB3_A2C, CLEANRL):
            raise UserError(
                f"the log has {other[0]}, which DQN, SAC, TD3 and their kin write; the doctor "
                "knows policy gradients on fresh episodes (PPO, A2C, TRPO)"
            )
        return language
    shown = ", ".join(sorted(there)[:6])
    raise UserError(
        f"no library is recognised by its columns ({shown}, …); name them: --columns "
        f"return=NAME,kl=NAME; what is read are {', '.join(_names())}"
    )


def _marked(there: set[str]) -> Language | None:
    """The first library that one of the columns is a mark of."""
    return next((language for language, marks in BY_MARK if there & set(marks)), None)


def _names() -> list[str]:
    """What `--columns` may name."""
    return [*SHORT, *(name for name in METRICS if name not in SHORT.values())]


SHORT = {"return": "return_mean", "length": "length_mean", "steps": "env_steps",
         "explained_variance": "explained_variance_before", "value_loss": "value_error",
         "std": "action_std", "learning_rate": "step_size"}  # fmt: skip


def mapped(table: Table, columns: Mapping[str, str]) -> Language:
    """The library that is recognised, if one is, where the columns given hold what is said.

    Raises:
        UserError: a name that is not read, or a column that is not there.
    """
    metrics = {}
    for ours, theirs in columns.items():
        name = SHORT.get(ours, ours)
        if name not in METRICS:
            raise UserError(
                f"--columns {ours}={theirs}: {ours} is not read; those are {', '.join(_names())}"
            )
        if theirs not in table.columns:
            raise UserError(
                f"--columns {ours}={theirs}: the log has no column {theirs!r}; it has "
                f"{', '.join(sorted(table.columns))}"
            )
        metrics[name] = (theirs,)
    language = _marked(set(table.columns))
    if language is None:
        return replace(OTHER, name="columns named by --columns", metrics=metrics)
    return replace(language, metrics={**language.metrics, **metrics})


def column(table: Table, language: Language, name: str) -> Column | None:
    """The numbers that the library logs for one of our names, in our unit, or None."""
    theirs = name_of(table, language, name)
    if theirs is None:
        return None
    found = table.columns[theirs]
    return Column(found.steps, language.factors.get(theirs, 1.0) * found.values)


def name_of(table: Table, language: Language, name: str) -> str | None:
    """The first of the library's names for one of ours that the log has, or None."""
    names = language.metrics.get(name, ())
    return next((theirs for theirs in names if theirs in table.columns), None)
