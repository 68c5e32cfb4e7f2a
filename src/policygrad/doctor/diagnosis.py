"""The doctor: from a run, or from an environment and settings, to what is wrong with it."""

import contextlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.settings import Timeout, check_setting
from policygrad.core.shell import user_path
from policygrad.devices.compiled_code import free_compiled_code
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.rules import diagnose as apply_rules
from policygrad.diagnostics.rules.settings import USUAL_DISCOUNT
from policygrad.diagnostics.sample import measure
from policygrad.doctor.collecting import collect
from policygrad.doctor.fitted_estimator import FittedEstimator
from policygrad.doctor.measuring import Say, with_gradients, with_pictures
from policygrad.doctor.subject import Subject
from policygrad.policies.agent import check_spaces
from policygrad.runs import RunDirectory
from policygrad.training import entry
from policygrad.training.assembly import closing_on_failure
from policygrad.training.callbacks import OnUpdate
from policygrad.training.config import TrainConfig

EPISODES = 64
PROBE_STEPS = 20_480  # length of the short run that is trained to examine an environment
LONGEST = 2_000  # steps of an episode in an environment without a time limit


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a run.

    Attributes:
        findings: what is wrong, most likely cause first; none if the run is healthy.
        examination: everything that was examined.
    """

    findings: tuple[Finding, ...]
    examination: Examination

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """Plain data; None for numbers that are infinite or not defined."""
        return {
            "healthy": self.healthy,
            "findings": [finding.to_json() for finding in self.findings],
            "examination": self.examination.to_json(),
        }


def diagnose(
    run: str | Path | None = None,
    env: Any = None,
    *,
    env_kwargs: dict[str, Any] | None = None,
    config: TrainConfig | None = None,
    episodes: int = EPISODES,
    seed: int = 0,
    processes: bool = False,
    step_timeout: float | None = None,
    gradients: bool = True,
    pictures: bool = False,
    say: Say | None = None,
    on_update: OnUpdate | None = None,
    **objects: Any,
) -> Diagnosis:
    """What is wrong with a run, or with an environment and settings; no findings if it is healthy.

    Args:
        run: a run directory, finished or not; None trains a short run with `config` first.
        env: as `train` takes it. With a run, None takes the run's own.
        env_kwargs: of an environment that is made from an id; with a run, its own are taken.
        config: settings of the short run; None for the defaults and 20,480 steps.
        episodes: number of fresh episodes, at least 8.
        seed: of the fresh episodes.
        processes: step Gymnasium environments in spawned worker processes.
        step_timeout: seconds that a step or a reset of a Gymnasium environment may take. None takes
            the run's own where a limit can be kept.
        gradients: whether to measure the gradient on them too, which takes longest.
        pictures: also measure what the pictures of a report show; it takes a few times as long.
        say: called with a few words about what is being done.
        on_update: called with the metrics of every update of the short run.
        objects: engine, collector, policy, algorithm, estimator, optimiser, network: values as
            `train` takes them. With a run: those that were passed to `train`, which no file holds.

    Returns:
        The findings, most likely cause first, and the examination that they follow from.

    Raises:
        UserError: neither a run nor an environment; a number out of range; an unknown object.
        RunError: a run that is missing or damaged.
        EnvironmentFailure: the environment raised, or a step took longer than the limit.
    """
    _check(episodes, seed, processes, step_timeout, objects)
    look: dict[str, Any] = {
        "episodes": episodes, "seed": seed, "processes": processes, "step_timeout": step_timeout,
        "gradients": gradients, "pictures": pictures, "say": say, **objects,
    }  # fmt: skip
    if run is not None:
        if config is not None:
            raise UserError("a run has its own settings; give a run or a config, not both")
        examination = examine(run, env, **look)
    elif env is not None:
        config = config or TrainConfig(total_steps=PROBE_STEPS)
        look["processes"] = processes = processes or config.processes
        limit = config.step_timeout if step_timeout is None else step_timeout
        config = replace(config, processes=processes, step_timeout=limit)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            with contextlib.suppress(NonFiniteError):  # the directory holds a record of it
                entry.train(
                    env, out=path, config=config, env_kwargs=env_kwargs, on_update=on_update,
                    **objects,
                )  # fmt: skip
            # built-in values that were passed are saved as settings
            saved = RunDirectory.open(path).read_config()["objects"]
            given = {k: v for k, v in look.items() if k not in entry.OBJECTS or k in saved}
            examination = examine(path, env if "env" in saved else None, **given)
    else:
        raise UserError("nothing to diagnose; name a run directory, or an environment (--env ENV)")
    return Diagnosis(apply_rules(examination), examination)


def _check(
    episodes: int, seed: int, processes: bool, step_timeout: float | None, objects: dict[str, Any]
) -> None:
    if episodes < 8:
        raise UserError(f"--episodes must be at least 8, got {episodes}")
    if seed < 0:
        raise UserError(f"--seed must be at least 0, got {seed}")
    check_setting("processes", bool, processes)
    check_setting("step_timeout", Timeout | None, step_timeout)
    unknown = sorted(set(objects) - set(entry.OBJECTS))
    if unknown:
        raise UserError(f"diagnose takes no {unknown[0]!r}; it takes {', '.join(entry.OBJECTS)}")


def examine(
    run: str | Path,
    env: Any = None,
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    processes: bool = False,
    step_timeout: float | None = None,
    gradients: bool = True,
    pictures: bool = False,
    say: Say | None = None,
    **objects: Any,
) -> Examination:
    """Examine a run: its settings, its metrics, and fresh episodes with its newest policy.

    Args and Raises as for `diagnose`. `notes` names what could not be examined.
    """
    _check(episodes, seed, processes, step_timeout, objects)
    free_compiled_code()
    say = say or _silent
    subject = Subject.of(user_path(run), {**objects, "env": env})
    found, agent = subject.recorded(), subject.agent()
    if isinstance(agent, str):
        return noted(found, agent)
    lanes = min(32, episodes)
    source = subject.source(lanes, processes=processes, step_timeout=step_timeout)
    with closing_on_failure(source):
        check_spaces(agent, source)
        say(f"running {episodes} episodes")
        key = jax.random.fold_in(jax.random.key(seed), 0xD0C)
        limit = subject.resolved.config.max_episode_steps or source.time_limit or LONGEST
        spaces = source.observation_space, source.action_space
        record, unfinished = collect(source, agent.policy, key, episodes, limit)

    fitted, predicted = None, None
    missing = subject.missing_estimator()
    if missing is None:
        fitted = FittedEstimator.of(subject, agent, source)
        predicted = fitted.predicted_returns(record)
    discount = USUAL_DISCOUNT if fitted is None else float(fitted.estimator.discount)
    sample = measure(agent.policy, *spaces, record, unfinished, discount=discount, judged=predicted)
    found = replace(found, time_limit=source.time_limit, sample=sample)
    if fitted is None:
        return noted(found, str(missing))
    if gradients:
        try:
            found = with_gradients(found, fitted, agent.policy, record, say, wide=pictures)
        except NonFiniteError as error:
            found = noted(found, f"gradients: {error}")
    if pictures:
        found = with_pictures(found, fitted, agent.policy, record, predicted, say)
    return found


def noted(found: Examination, note: str) -> Examination:
    """The examination with a note of what could not be examined."""
    return replace(found, notes=(*found.notes, note))


def _silent(_: str) -> None:
    pass
