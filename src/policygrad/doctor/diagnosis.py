"""The doctor: from a run, or from an environment and settings, to what is wrong with it."""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from policygrad import diagnostics, environments
from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import make_room
from policygrad.diagnostics.examination import Examination, Sample, measure, series_of
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.rules import diagnose as apply_rules
from policygrad.diagnostics.rules.values import IN_USE, LAMBDA_FLAG, WITH, WITHOUT
from policygrad.diagnostics.streaming import weights_of
from policygrad.evaluation import check_spaces
from policygrad.gradients import baselines, estimators
from policygrad.gradients.baselines import Baseline
from policygrad.gradients.estimators import Estimator, EstimatorState
from policygrad.gradients.forms import LambdaReturn
from policygrad.policies.agent import Agent
from policygrad.rollout.collectors import unfinished_episodes
from policygrad.rollout.source import Engine, Source, open_source
from policygrad.runs import RunDirectory, storage
from policygrad.runs.policy_files import load
from policygrad.spaces import ObservationEncoder, space_of
from policygrad.training import entry
from policygrad.training.building import build_estimator
from policygrad.training.config import TrainConfig
from policygrad.training.metrics import OnUpdate
from policygrad.training.resolve import Given, resolve

EPISODES = 64
PROBE_STEPS = 20_480  # what is trained to examine an environment without a run
LONGEST = 2_000  # steps, of an episode that has no limit of its own
ROWS = 200_000  # steps that gradients are measured on, at most
LAMBDAS = (0.5, 0.9, 0.95, 1.0)
STEPS = (1, 5, 20)  # n of n-step estimators

Say = Callable[[str], None]


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a run.

    Attributes:
        findings: what is wrong, most likely cause first; none where the run is healthy.
        examination: everything that was looked at.
    """

    findings: tuple[Finding, ...]
    examination: Examination

    @property
    def healthy(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """Plain data; None for what is infinite or not defined."""
        return {
            "healthy": self.healthy,
            "findings": [finding.to_json() for finding in self.findings],
            "examination": self.examination.to_json(),
        }


def diagnose(
    run: str | Path | None = None,
    env: Any = None,
    *,
    policy: Any = None,
    estimator: Estimator | None = None,
    env_kwargs: dict[str, Any] | None = None,
    engine: Engine | None = None,
    config: TrainConfig | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
    gradients: bool = True,
    pictures: bool = False,
    say: Say | None = None,
    on_update: OnUpdate | None = None,
) -> Diagnosis:
    """What is wrong with a run, or with an environment and settings; nothing where nothing is.

    Args:
        run: a run directory, finished or not; None trains a short run with `config` first.
        env: as `train` takes it. With a run, None takes the run's own.
        policy, estimator: those that were passed to `train` as objects, of the same structure.
        env_kwargs: of an environment that is made from an id; with a run, its own are taken.
        engine: opens the environment's id; what was passed to `train`, of the same kind.
        config: settings of the short run; None for the defaults and 20,480 steps.
        episodes: how many fresh ones to look at, at least 8.
        seed: of those.
        gradients: measure the gradient on them too, the costlier part.
        pictures: also measure what the pictures of a report show; it takes a few times as long.
        say: told, in a few words, what is being done.
        on_update: called with the metrics of every update of the short run.

    Returns:
        The findings, most likely cause first, and the examination that they follow from.

    Raises:
        UserError: neither a run nor an environment; a number out of range.
        RunError: a run that is missing or damaged.
        EnvironmentFailure: the environment raised.
    """
    given: dict[str, Any] = {
        "policy": policy, "estimator": estimator, "episodes": episodes, "seed": seed,
        "gradients": gradients, "pictures": pictures, "say": say, "engine": engine,
    }  # fmt: skip
    if run is not None:
        if config is not None:
            raise UserError("a run has its own settings; give a run or a config, not both")
        examination = examine(run, env, **given)
    elif env is not None:
        check_numbers(episodes, seed)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            config = config or TrainConfig(total_steps=PROBE_STEPS)
            with contextlib.suppress(NonFiniteError):  # which the directory tells of
                entry.train(
                    env, out=path, config=config, policy=policy, estimator=estimator,
                    env_kwargs=env_kwargs, engine=engine, on_update=on_update,
                )  # fmt: skip
            described = environments.describe(environments.choose_engine(env, kwargs=env_kwargs))
            examination = examine(path, env if described is None else None, **given)
    else:
        raise UserError("nothing to diagnose; name a run directory, or an environment (--env ENV)")
    return Diagnosis(apply_rules(examination), examination)


def check_numbers(episodes: int, seed: int) -> None:
    """UserError where a number is out of range."""
    if episodes < 8:
        raise UserError(f"--episodes must be at least 8, got {episodes}")
    if seed < 0:
        raise UserError(f"--seed must be at least 0, got {seed}")


def examine(
    run: str | Path,
    env: Any = None,
    *,
    policy: Any = None,
    estimator: Estimator | None = None,
    engine: Engine | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
    gradients: bool = True,
    pictures: bool = False,
    say: Say | None = None,
) -> Examination:
    """Look at a run: its settings, its metrics, and fresh episodes with its newest policy.

    Args and Raises as for `diagnose`. What cannot be looked at is named in `notes`.
    """
    check_numbers(episodes, seed)
    make_room()
    say = say or _silent
    directory = RunDirectory.open(Path(run))
    saved = directory.read_config()
    config = entry.saved_config(directory, saved)
    found = _recorded(directory, saved, config, env)
    given = {"env": env, "engine": engine, "policy": policy, "estimator": estimator}
    missing = [name for name in given if name in found.passed_as_objects and given[name] is None]
    if {"env", "engine", "policy"} & set(missing):
        needed = " and ".join(name for name in missing if name != "estimator")
        return replace(found, notes=(
            *found.notes,
            f"no fresh episodes: the run was trained with a {needed} passed as an object; pass it "
            f"to policygrad.diagnose({str(run)!r}, {needed.replace(' and ', '=…, ')}=…)",
        ))  # fmt: skip
    agent = load(directory.path, like=policy)
    environment = open_source(
        saved["env"] if env is None else env,
        min(32, episodes),
        engine=engine,
        kwargs=saved["env_kwargs"] if env is None else {},
    )
    check_spaces(agent, environment)
    say(f"running {episodes} episodes")
    key = jax.random.fold_in(jax.random.key(seed), 0xD0C)
    limit = config.max_episode_steps or environment.time_limit or LONGEST
    record, unfinished = collect(environment, agent.policy, key, episodes, limit)
    found = replace(found, time_limit=environment.time_limit)
    if "estimator" in missing:
        note = "gradients were not measured: the estimator was passed as an object; pass it again"
        sample = sample_of(agent, environment, record, unfinished, cast(float, config.discount))
        return replace(found, sample=sample, notes=(*found.notes, note))
    judge = Judge.of(directory, config, environment, estimator)
    discount = float(judge.estimator.discount)
    judged = judge.judged(record)
    sample = sample_of(agent, environment, record, unfinished, discount, judged)
    found = replace(found, sample=sample)
    if gradients:
        try:
            found = judge.gradients(found, agent.policy, record, say, wide=pictures)
        except NonFiniteError as error:
            found = replace(found, notes=(*found.notes, f"gradients: {error}"))
    return judge.pictured(found, agent.policy, record, judged, say) if pictures else found


def _recorded(
    directory: RunDirectory, saved: dict[str, Any], config: TrainConfig, env: Any
) -> Examination:
    """What the run's files say, before anything is run."""
    metrics = series_of(directory.read_metrics()) if directory.has_metrics() else {}
    steps = metrics.get("env_steps", np.zeros(1))
    found = Examination(
        env=environments.describe(env) if env is not None else saved["env"],
        settings=_resolved(config),
        passed_as_objects=tuple(saved["objects"]),
        metrics=metrics,
        env_steps=int(steps[-1]) if len(steps) else 0,
        failure=directory.read_failure(),
    )
    if found.updates:
        return found
    return replace(found, notes=("training: the run has no metrics yet, which most rules look at",))


def _resolved(config: TrainConfig) -> dict[str, Any]:
    """Every setting by name, with the size of the batch if nobody gave one."""
    settings = config.to_json()
    if settings["batch_episodes"] is None:
        settings["batch_steps"] = config.steps_per_batch
    return settings


def _silent(_: str) -> None:
    pass


def collect(
    source: Source, policy: Any, key: Any, episodes: int, limit: int
) -> tuple[Trajectories, np.ndarray]:
    """N whole episodes; those stopped at the limit are marked truncated, and flagged. Closes it."""
    open_key, collect_key = jax.random.split(key)
    collector = source.episodes(policy, open_key, episodes, limit, keep_unfinished=True)
    record = jax.device_get(collector.collect(policy, collect_key))
    collector.close()
    unfinished = unfinished_episodes(record)
    valid = np.asarray(record.valid)
    last = valid & ~np.concatenate([valid[1:], np.zeros_like(valid[:1])])
    return replace(record, truncated=record.truncated | (last & unfinished)), unfinished


def sample_of(
    agent: Agent,
    environment: Any,
    record: Trajectories,
    unfinished: np.ndarray,
    discount: float,
    judged: tuple[np.ndarray, np.ndarray] | None = None,
) -> Sample:
    """`measure`, of an agent in its environment."""
    spaces = environment.observation_space, environment.action_space
    return measure(agent.policy, *spaces, record, unfinished, discount=discount, judged=judged)


@dataclass(frozen=True)
class Judge:
    """The run's estimator and what it had fitted, to weigh fresh episodes with.

    Attributes:
        estimator: as it trained.
        state: of the newest checkpoint.
        scale: what rewards are multiplied by.
    """

    estimator: Estimator
    state: EstimatorState
    scale: float

    @classmethod
    def of(
        cls, directory: RunDirectory, config: TrainConfig, environment: Any, estimator: Any
    ) -> "Judge":
        """From the newest checkpoint."""
        resolved, given = resolve(config, Given(estimator=estimator))
        estimator = build_estimator(resolved, given, environment.time_limit)
        observations = space_of(environment.observation_space)
        encode = ObservationEncoder(observations)
        estimator = jax.tree.map(jnp.asarray, estimator.bind(encode))
        stem = directory.newest_checkpoint() / "state"
        arrays, _ = storage.load(stem)
        like = estimator.init(jax.random.key(0), observations.example())
        state = storage.from_arrays(like, arrays, "state/estimator", stem)
        mean_square = float(arrays["state/reward_scale/mean_square"])
        scaled = config.scale_rewards and mean_square > 0
        return cls(estimator, state, mean_square**-0.5 if scaled else 1.0)

    def scaled(self, record: Trajectories) -> Trajectories:
        """The record with rewards as the estimator sees them."""
        return replace(record, rewards=np.asarray(record.rewards * self.scale, np.float32))

    def judged(self, record: Trajectories) -> tuple[np.ndarray, np.ndarray] | None:
        """`[T, N]` each, returns to go and what is subtracted from them; None for nothing.

        The rewards themselves, and the critic's word only behind a truncation: a return that λ
        mixes with the critic is explained by it all too well.
        """
        baseline, state = self.subtracted
        if baseline is None:
            return None
        both = EstimatorState(state, self.state.critic)
        weights = weights_of(self.rewards_to_go(baseline), both, self.scaled(record))
        return np.asarray(weights.returns), np.asarray(weights.baseline)

    @property
    def subtracted(self) -> tuple[Baseline | None, Any]:
        """What is subtracted from returns, and what it has fitted."""
        if self.estimator.baseline is not None:
            return self.estimator.baseline, self.state.baseline
        return self.estimator.critic, self.state.critic

    @property
    def plain(self) -> Estimator:
        """The estimator without the scaling of its advantages, which hides what differs."""
        return replace(self.estimator, normalise_advantages=False)

    def gradients(
        self, found: Examination, policy: Any, record: Trajectories, say: Say, *, wide: bool
    ) -> Examination:
        """The examination with noise, baseline and comparison, where they can be measured."""
        assert found.sample is not None
        if not found.sample.sound:
            return found
        record = self.scaled(_shortened(record, found))
        say("measuring the gradient")
        rows = record.rewards.size  # all at once: one shape compiles
        noise = diagnostics.gradient_noise(policy, self.plain, self.state, record, rows=rows)
        found = replace(found, noise=noise)
        batch = found.batch_episodes
        if not batch >= 1:
            return found
        say("comparing estimators")
        candidates = self.candidates(wide=wide)
        # unbiased either way; the noise of the reference is that of every bias
        reference = WITH if WITH in candidates else WITHOUT
        comparison = diagnostics.compare_estimators(
            policy,
            candidates,
            record,
            batch_episodes=round(batch),
            reference=reference,
            rows=rows,
        )
        return replace(found, comparison=comparison)

    def pictured(
        self,
        found: Examination,
        policy: Any,
        record: Trajectories,
        judged: tuple[np.ndarray, np.ndarray] | None,
        say: Say,
    ) -> Examination:
        """The examination with what only pictures show."""
        if judged is not None:
            valid = np.asarray(record.valid)
            found = replace(found, predicted_returns=(judged[0][valid], judged[1][valid]))
        if found.noise is None:
            return found
        say("taking the variance apart")
        record = self.scaled(_shortened(record, found))
        parts = diagnostics.decompose_variance(policy, self.plain, self.state, record)
        return replace(found, decomposition=parts)

    def rewards_to_go(self, baseline: Baseline | None) -> Estimator:
        """The rewards themselves less a baseline; a critic's word behind truncations alone."""
        own = self.estimator.critic
        return estimators.reward_to_go(
            discount=self.estimator.discount,
            baseline=baseline,
            critic=own,
            time_limit="terminates" if own is None else self.estimator.time_limit,
        )

    def candidates(self, *, wide: bool) -> dict[str, tuple[Estimator, EstimatorState]]:
        """The estimator in use; rewards to go with and without its baseline; and others with its
        critic, named by the flags that they take. All share γ and what has been fitted.

        Args:
            wide: also n steps, total returns and γ^t kept, which no rule asks for.
        """
        critic, fitted = self.estimator.critic, self.state.critic
        none = EstimatorState((), fitted)
        found = {IN_USE: (self.plain, self.state)}
        found[WITHOUT] = self.rewards_to_go(baselines.none()), none
        baseline, state = self.subtracted
        if baseline is not None:
            found[WITH] = self.rewards_to_go(baseline), EstimatorState(state, fitted)
        if critic is not None:
            for x in LAMBDAS:
                gae = replace(self.plain, form=LambdaReturn(jnp.float32(x)), baseline=None)
                found[f"{LAMBDA_FLAG} {x:g}"] = gae, none
        if not wide:
            return found
        if critic is not None:
            own = {"discount": self.estimator.discount, "critic": critic}
            for n in STEPS:
                steps = estimators.n_step(n=n, time_limit=self.estimator.time_limit, **own)
                found[f"--estimator n-step --n {n}"] = steps, none
        total = estimators.total_return(discount=self.estimator.discount)
        found["--estimator total-return"] = total, EstimatorState((), ())
        if not self.plain.discounted_states and not self.plain.form.whole_episodes:
            kept = replace(self.plain, discounted_states=True)
            found["in use, --discounted-states"] = kept, self.state
        return found


def _shortened(record: Trajectories, found: Examination) -> Trajectories:
    """The first of the episodes, where all are too many steps to measure gradients on."""
    assert found.sample is not None
    if found.sample.steps <= ROWS:
        return record
    keep = max(8, int(ROWS / found.sample.lengths.mean))
    return jax.tree.map(lambda x: x[:, :keep], record)
