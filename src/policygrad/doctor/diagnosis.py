"""The doctor: from a run, or from an environment and settings, to what is wrong with it."""

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.settings import Timeout, check_setting
from policygrad.core.shell import user_path
from policygrad.core.usual import LONGEST_EPISODE
from policygrad.devices.compiled_code import free_compiled_code
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.facts import series
from policygrad.diagnostics.rules import diagnose as apply_rules
from policygrad.diagnostics.rules import looked_at, not_looked_at
from policygrad.diagnostics.rules.settings import USUAL_DISCOUNT
from policygrad.diagnostics.standing import Beside
from policygrad.doctor.collecting import FreshEpisodes
from policygrad.doctor.fitted_estimator import FittedEstimator
from policygrad.doctor.measuring import add_up, elsewhere, examined, here
from policygrad.doctor.of_logs import diagnose_logs
from policygrad.doctor.playing import SAME, play_at_random, play_by_mode
from policygrad.doctor.result import Diagnosis
from policygrad.doctor.subject import Subject
from policygrad.doctor.units import Say, Work, most_of, silent, units_of, whole_groups
from policygrad.logs import is_log
from policygrad.machines.remote import Remote
from policygrad.policies.agent import check_spaces
from policygrad.rollout.source import Source
from policygrad.runs import RunDirectory
from policygrad.spaces import observation_space_of
from policygrad.training import entry
from policygrad.training.assembly import closing_on_failure
from policygrad.training.callbacks import OnUpdate
from policygrad.training.config import TrainConfig

EPISODES = 64
PROBE_STEPS = 20_480  # length of the short run that is trained to examine an environment
LONGEST = 2_000  # steps of a fresh episode without a time limit, unless training saw longer ones
TIMES = 3  # the longest mean length of training


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
    workers: Remote | None = None,
    gradients: bool = True,
    pictures: bool = False,
    say: Say | None = None,
    on_update: OnUpdate | None = None,
    **objects: Any,
) -> Diagnosis:
    """What is wrong with a run, or with an environment and settings.

    Args:
        run: a run directory, finished or not; None trains a short run with `config` first. A log of
            another library is read as by `diagnose_logs`, without any of the other arguments.
        env: as `train` takes it. With a run, None takes the run's own.
        env_kwargs: of an environment that is made from an id; with a run, its own are taken.
        config: settings of the short run; None for the defaults and 20,480 steps.
        episodes: number of fresh episodes, at least 8. Of a run whose episodes start in groups they
            do too: then it is the next multiple of the groups' size, and 8 groups at least.
        seed: of the fresh episodes.
        processes: step Gymnasium environments in spawned worker processes.
        step_timeout: seconds that a step or a reset of a Gymnasium environment may take. None takes
            the run's own where a limit can be kept.
        workers: `policygrad.remote(workers=4)`, which collect the fresh episodes and reduce them to
            sums, here or on a cluster. No number depends on them. The short run is trained in this
            process.
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
    _check(episodes, seed, processes, step_timeout, workers, objects)
    look: dict[str, Any] = {
        "episodes": episodes, "seed": seed, "processes": processes, "step_timeout": step_timeout,
        "workers": workers, "gradients": gradients, "pictures": pictures, "say": say, **objects,
    }  # fmt: skip
    if run is not None and is_log(user_path(run)):
        if env is not None or config is not None or objects or workers is not None:
            raise UserError(f"{run} is a log of another library: it is read, and nothing is run")
        return diagnose_logs(run)
    if run is not None:
        if config is not None:
            raise UserError("a run has its own settings; give a run or a config, not both")
        examination = examine(run, env, **look)
    elif env is not None:
        config = config or TrainConfig(total_steps=PROBE_STEPS)
        look["processes"] = processes = processes or config.processes
        _check_workers(workers, processes)
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
    name = run if run is not None else env if isinstance(env, str) else examination.env
    name = "the environment that was passed" if name is None else str(name)
    rules = looked_at(examination), not_looked_at(examination)
    return Diagnosis(apply_rules(examination), examination, *rules, name=name)


def _check(
    episodes: int,
    seed: int,
    processes: bool,
    step_timeout: float | None,
    workers: Remote | None,
    objects: dict[str, Any],
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
    _check_workers(workers, processes)


def _check_workers(workers: Any, processes: bool) -> None:
    """Raise UserError for workers that cannot be used."""
    if workers is None:
        return
    if not isinstance(workers, Remote):
        raise UserError(
            f"workers must be policygrad.remote(workers=N), or None for this process, got "
            f"{workers!r}"
        )
    if processes:
        raise UserError(
            f"--processes and --workers {workers.workers} exclude each other: a worker steps its "
            "environments by itself; leave --processes out"
        )


def _check_enough(units: int, episodes: int, most: int, workers: Remote | None) -> None:
    """Raise UserError for more workers than there are units to collect."""
    if workers is not None and workers.workers > units:
        fewer = f"ask for at most {units} workers" if units > 1 else "leave --workers out"
        raise UserError(
            f"--workers {workers.workers} are more than the {units} "
            f"{'unit' if units == 1 else 'units'} that --episodes {episodes} are collected in, "
            f"each of up to {most}; {fewer}, or ask for more episodes"
        )


def examine(
    run: str | Path,
    env: Any = None,
    *,
    episodes: int = EPISODES,
    seed: int = 0,
    processes: bool = False,
    step_timeout: float | None = None,
    workers: Remote | None = None,
    gradients: bool = True,
    pictures: bool = False,
    say: Say | None = None,
    **objects: Any,
) -> Examination:
    """Examine a run: its settings, its metrics, and fresh episodes with its newest policy.

    Args and Raises as for `diagnose`. `notes` names what could not be examined.
    """
    _check(episodes, seed, processes, step_timeout, workers, objects)
    free_compiled_code()
    say = say or silent
    subject = Subject.of(user_path(run), {**objects, "env": env})
    found, agent = subject.recorded(), subject.agent()
    if isinstance(agent, str):
        return found.noted(agent)
    most = most_of(observation_space_of(agent.observation_space).example())
    size = subject.resolved.config.group_size
    episodes = whole_groups(episodes, size) if size > 1 else episodes
    units = units_of(episodes, most, size)
    _check_enough(len(units), episodes, most, workers)
    num_envs = min(32, units[0].episodes)
    lanes = None if workers is None else subject.lanes(num_envs, step_timeout=step_timeout)
    source = subject.source(num_envs, processes=processes, step_timeout=step_timeout)
    with closing_on_failure(source):
        check_spaces(agent, source)
        missing = subject.missing_estimator()
        fitted = None if missing else FittedEstimator.of(subject, agent, source)
        work = Work(
            policy=agent.policy,
            spaces=(source.observation_space, source.action_space),
            fitted=fitted,
            seed=seed,
            episodes=units[0].episodes,
            limit=subject.resolved.config.max_episode_steps or source.time_limit or _cap(found),
            discount=USUAL_DISCOUNT if fitted is None else float(fitted.estimator.discount),
            gradients=gradients,
            pictures=pictures,
            group_size=size,
        )
        found = replace(found, time_limit=source.time_limit)
        say(f"running {episodes:,} episodes")
        open_still: Source | FreshEpisodes = source
        if workers is None or lanes is None:
            opened = work.begin(source)
            open_still = opened.fresh
            sums = add_up(units, here(opened, units, say), say)
        else:
            sums = add_up(units, elsewhere(workers, lanes, work, units), say)
        if sums.sample.sound:
            found = _compared(found, source, work, episodes, sums.sample.off_mode > 0, say)
        open_still.close()
    found = examined(found, work, units, sums)
    return found if missing is None else found.noted(missing)


def _cap(found: Examination) -> int:
    """Steps after which a fresh episode is stopped, in an environment without a time limit."""
    lengths = series(found, "length_mean")
    seen = int(TIMES * lengths.max()) if len(lengths) else 0
    return max(LONGEST, min(seen, LONGEST_EPISODE))


def _compared(
    found: Examination, source: Source, work: Work, episodes: int, off_mode: bool, say: Say
) -> Examination:
    """With the episodes that are played for comparison, or notes of why there are none."""
    played = work.seed, episodes, work.limit
    say("playing by the mode")
    by_mode = play_by_mode(source, work.policy, *played) if off_mode else SAME
    say("playing at random")
    at_random = play_at_random(source, *played)
    for name, beside in (("by_mode", by_mode), ("at_random", at_random)):
        known = isinstance(beside, Beside)
        found = replace(found, **{name: beside}) if known else found.noted(beside)
    return found
