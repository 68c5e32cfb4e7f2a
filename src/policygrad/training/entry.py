"""`train` and `resume`: a new run, and the continuation of one."""

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Never

import optax

from policygrad import environments
from policygrad.algorithms import Algorithm
from policygrad.core.describing import agree, described
from policygrad.core.elsewhere import BUILT, SAME, unknown_setting
from policygrad.core.errors import RunError, UserError
from policygrad.core.settings import flag, in_place_of_a_function
from policygrad.core.shell import command, user_path
from policygrad.gradients.weights import Estimator
from policygrad.policies.architectures import Architecture
from policygrad.policies.meeting import Policy
from policygrad.processes.scripts import end_where_the_script_runs_again
from policygrad.rollout.blocks import Elsewhere
from policygrad.rollout.engines import Engine
from policygrad.runs import RunDirectory, storage
from policygrad.runs.directory import CONFIG
from policygrad.runs.policy_files import load
from policygrad.training import named_estimators
from policygrad.training.assembly import CollectorMaker, Task, assemble, closing_on_failure
from policygrad.training.beginning import place, trained_in
from policygrad.training.callbacks import (
    Callback,
    OnUpdate,
    as_callbacks,
    check_schedules,
    schedules_of,
)
from policygrad.training.changes import change, other_schedule
from policygrad.training.checkpoint import check_steps_left
from policygrad.training.config import TrainConfig
from policygrad.training.ending import warn_of_a_signal
from policygrad.training.given import Given
from policygrad.training.history import History, begin_from
from policygrad.training.loop import Training
from policygrad.training.own_steps import other_steps
from policygrad.training.own_values import check_arguments
from policygrad.training.result import Run
from policygrad.training.schedule import little_left

NAMED = ("algorithm", "estimator", "optimiser", "network")  # given as a name or as an object
OBJECTS = ("env", "engine", "collector", "policy", "algorithm", "estimator", "optimiser", "network")


def train(
    env: Any = None,
    *rest: Never,
    out: str | Path | None = None,
    policy: Policy | None = None,
    algorithm: Algorithm | str | None = None,
    estimator: Estimator | str | None = None,
    optimiser: optax.GradientTransformation | str | None = None,
    network: Architecture | str | None = None,
    engine: Engine | None = None,
    collector: CollectorMaker | Elsewhere | None = None,
    env_kwargs: dict[str, Any] | None = None,
    on_update: OnUpdate | None = None,
    config: TrainConfig | None = None,
    start: Any = None,
    **settings: Any,
) -> Run:
    """Train a policy: by default by the vanilla policy gradient, with GAE and a value network.

    Args:
        env: an id (`CartPole-v1`, `module:Env-v0`, `gymnax/CartPole-v1`), a function that makes a
            Gymnasium environment, a vector environment, or a JAX-native environment. None takes
            that of the run that `start` names.
        rest: refused; all other arguments have names.
        out: directory to write the run to; None writes nothing.
        policy: any pytree observation -> `Distribution`, or an `Agent` for the same spaces; None
            builds a network for the spaces.
        algorithm: a record, such as `algorithms.Natural(target_kl=0.02)`, or a name.
        estimator: what multiplies each score: a value of `estimators`, or a name.
        optimiser: an optax transformation: one such as `optax.adam(3e-4)`, whose own steps are
            taken, or as `optax.scale_by_adam()`, whose direction `step_size` multiplies; or a name.
        network: an architecture of policy and critic, or a name; None for tanh layers of the sizes
            `hidden`, and for convolutions where an observation is a picture.
        engine: what opens `env` as a source of steps; None for the library's own engines.
        collector: `policygrad.remote(workers=4)`, which collects in worker processes, here or on a
            cluster; or (source, policy, key, config) -> a collector of your own; None for the
            source's own.
        env_kwargs: passed to the environment if it is made from an id, a class or a function. None
            takes those of the run that `start` names, if the environment is the same.
        on_update: called after every update with the run as it is, an `Ongoing`, which is a mapping
            of the update's metrics too; a list calls several in order. Returning `policygrad.STOP`
            ends the run.
        start: a run, a checkpoint or a policy file: training goes on from its policy. A class that
            `load` needs is passed as `network`. The settings are those of the new run.
        config: a whole configuration; or
        settings: its fields by name, `seed=1, total_steps=100_000` for instance.

    Returns:
        The run: policy, metrics, summary.

    Raises:
        UserError: an argument or a setting is out of range, unknown or unsupported, or nothing
            reads it.
        NonFiniteError: an observation, a reward, the gradient or the critic is NaN or infinite.
        EnvironmentFailure: the environment raised.
    """
    if rest:
        built = f"; {BUILT}" if "policy" in str(env).lower() else ""
        raise UserError(
            "train takes one argument without a name, the environment, got "
            f"{', '.join(map(repr, (env, *rest)))}{built}"
        )
    check_arguments(out=out, collector=collector, env_kwargs=env_kwargs, config=config)
    config, given = asked_for(
        config, settings, policy=policy, algorithm=algorithm, estimator=estimator,
        optimiser=optimiser, network=network,
    )  # fmt: skip
    callbacks = as_callbacks(on_update)
    given, history = begin_from(start, given)
    env, env_kwargs = place(env, env_kwargs, trained_in(start))
    out = None if out is None else user_path(out)
    if out is not None:
        RunDirectory.check_free(out)
    else:
        refuse_files(config)
    task = Task.of(
        env, env_kwargs, engine, collector, processes=config.processes,
        groups=named_estimators.starts_alike(config, given),
    )  # fmt: skip
    assembly = assemble(task, config, given, history)
    with closing_on_failure(assembly):
        check_schedules(callbacks, assembly)
    # only now, so that an error above leaves no directory behind
    with begun_directory(out) as directory:
        run = Training.begin(assembly, directory, schedules_of(callbacks)).run(callbacks)
    warn_of_a_signal(run)
    return run


def resume(
    path: str | Path,
    *,
    total_steps: int | None = None,
    on_update: OnUpdate | None = None,
    **more: Any,
) -> Run:
    """Continue a run from its newest checkpoint, as if it had never stopped.

    Args:
        path: the run directory, or one of its checkpoints, to go on from there; later ones are
            then set aside.
        total_steps: new total number of steps; None for the run's own.
        on_update: as of `train`.
        more: env, engine, collector, policy, algorithm, estimator, optimiser, network: those that
            were passed to `train` as objects. No file holds them, so they must be passed again.
            Workers (`collector=policygrad.remote(…)`) are no part of a run, and may be others. Or
            settings by name, which hold from here on: how much and how often is written, and the
            numbers of the algorithm, the estimator and the critic (`training.changes`).

    Returns:
        The run. `summary["resumed_exactly"]` is False if the environments could not be brought back
        to where they were, and began fresh episodes.

    Raises:
        RunError: there is no run, or it is damaged or of another format.
        UserError: an object that is needed was not passed, or another one was; a setting that may
            not change; or the run has all its steps already.
    """
    end_where_the_script_runs_again()  # its parent holds the run
    objects = {name: value for name, value in more.items() if name in OBJECTS}
    settings = {name: value for name, value in more.items() if name not in OBJECTS}
    settings |= {name: objects.pop(name) for name in NAMED if isinstance(objects.get(name), str)}
    if total_steps is not None:
        settings["total_steps"] = total_steps
    callbacks = as_callbacks(on_update)
    directory, at = RunDirectory.open_at(user_path(path))
    _check_arguments(directory, settings)
    with directory.held():
        run = _resume(directory, at, settings, callbacks, objects)
    warn_of_a_signal(run)
    return run


def _resume(
    directory: RunDirectory,
    at: Path | None,
    settings: dict[str, Any],
    callbacks: Sequence[Callback],
    objects: dict[str, Any],
) -> Run:
    """Continue a run that this process holds."""
    saved = directory.read_config()
    old = saved_config(directory, saved)
    elsewhere = (
        objects.pop("collector") if isinstance(objects.get("collector"), Elsewhere) else None
    )
    check_objects(directory, saved, objects)
    if elsewhere is not None and old.lanes_per_block is None:
        raise UserError(
            f"{directory.path} was not collected in blocks of lanes, which {elsewhere} would take; "
            "resume it without workers. For workers later on, begin a run with --workers N or "
            "--lanes-per-block N"
        )
    _check_schedules(directory, saved.get("schedules", []), schedules_of(callbacks))
    config, changed = change(old, _given(objects), settings)
    told = other_schedule(old, config, _given(objects))
    env_steps = check_steps_left(directory, config.total_steps, at)
    env = objects.pop("env", None)
    task = Task(
        saved["env"] if env is None else env,
        saved["env_kwargs"],
        objects.pop("engine", None),
        objects.pop("collector", None),
        elsewhere,
    )
    if saved.get("begins_from_a_policy"):
        checkpoint = at or directory.newest_checkpoint()
        objects["policy"] = load(checkpoint, network=objects.get("network")).policy
    history = History.from_json(saved).after(env_steps, changed)
    assembly = assemble(task, config, Given(**objects), history)
    with closing_on_failure(assembly):
        check_schedules(callbacks, assembly)
        training = Training.resume(assembly, directory, at, schedules_of(callbacks))
        for text in (
            told,
            little_left(assembly.schedule, env_steps, config.total_steps),
            other_steps(saved.get("optimiser_steps"), assembly.optimiser_steps),
        ):
            if text is not None:
                warnings.warn(f"{directory.path}: {text}", stacklevel=3)
    return training.run(callbacks)


OF_TRAIN = {
    "env_kwargs": "the arguments of its environment",
    "out": "its directory",
    "start": "the policy that it began from",
    "config": "its configuration; give the settings that are to change by name",
}


def _check_arguments(directory: RunDirectory, settings: dict[str, Any]) -> None:
    """UserError for what `train` takes beside settings, and a resumed run keeps."""
    for name in settings.keys() & OF_TRAIN.keys():
        raise UserError(
            f"a resumed run keeps {OF_TRAIN[name]}; leave {name}= out, got {settings[name]!r}. To "
            f"begin a new run from its policy: policygrad.train(start={str(directory.path)!r}, …)"
        )


def refuse_files(config: TrainConfig) -> None:
    """UserError for what is written into a run directory, where there is none."""
    for name in ("tensorboard", "video_every"):
        if getattr(config, name):
            raise UserError(
                f"{flag(name)} writes into the run directory, and there is none: give out= too"
            )


def begun_directory(
    out: str | Path | None,
) -> contextlib.AbstractContextManager[RunDirectory | None]:
    """An empty run directory that this process alone writes; None where nothing is written."""
    return contextlib.nullcontext() if out is None else RunDirectory.begun(Path(out))


def _check_schedules(directory: RunDirectory, wanted: Any, given: list[str]) -> None:
    """UserError unless the numbers that changed while a run went on are to change again."""
    if wanted != given:
        raise UserError(
            f"{directory.path} was trained with schedules of {wanted or 'nothing'}, got schedules "
            f"of {given or 'nothing'}; continue it in Python, and pass the same in on_update"
        )


def _given(objects: dict[str, Any]) -> Given:
    """The objects that are in place of names, and not the environment's."""
    return Given(**{name: objects[name] for name in Given.__dataclass_fields__ if name in objects})


def check_objects(directory: RunDirectory, saved: dict[str, Any], objects: dict[str, Any]) -> None:
    """UserError unless what `train` was given as objects is passed again, and nothing else."""
    path, wanted = directory.path, saved["objects"]
    passed = {name: value for name, value in objects.items() if value is not None}
    missing = [name for name in wanted if name not in passed]
    if missing:
        again = ", ".join(f"{name}=..." for name in wanted)
        raise UserError(
            f"{path} was trained with {', '.join(wanted)} passed as objects, which no file holds; "
            f"continue it in Python: policygrad.resume({str(path)!r}, {again})"
        )
    _check_same_env(directory, saved, passed.get("env"))
    for name, value in passed.items():
        rebuilt = name == "policy" and saved.get("begins_from_a_policy")
        if name not in wanted and name != "env" and not rebuilt:
            raise UserError(
                f"{path} was trained without a {name} passed as an object, got {name}={value!r}; "
                "leave it out"
            )
        was = saved.get("values", {}).get(name)
        now = described(value)
        if name == "env" or was is None or agree(was, now):  # an environment may be moved
            continue
        told = f"{path} was trained with another {name}: {was}, got {now}"
        if not agree(was, now, classes_alone=True):
            raise UserError(f"{told}; pass one of the same class")
        warnings.warn(f"{told}; the run goes on with the new settings", stacklevel=3)


def _check_same_env(directory: RunDirectory, saved: dict[str, Any], env: Any) -> None:
    """UserError where another environment is passed than the one that a run names."""
    if env is None or "env" in saved["objects"] or environments.describe(env) == saved["env"]:
        return
    if environments.choose_engine(env) == saved["env"]:
        return
    told = env if isinstance(env, str) else type(env).__name__
    elsewhere = command("train", told, "--from", directory.path)
    raise UserError(
        f"{directory.path} was trained in {saved['env']}, and a resumed run keeps its environment, "
        f"got env={env!r}; to train its policy on elsewhere, begin a new run: {elsewhere}, or "
        f"policygrad.train(env, start={str(directory.path)!r})"
    )


def asked_for(
    config: TrainConfig | None, settings: dict[str, Any], **values: Any
) -> tuple[TrainConfig, Given]:
    """A configuration, and the values in place of names; names among the values are settings."""
    named = {name for name, value in values.items() if isinstance(value, str)} - {"policy"}
    names = {name: values[name] for name in named}
    settings = {**settings, **names}
    if config is not None and settings:
        raise UserError(f"give config or settings, not both; got config and {sorted(settings)}")
    given = Given(**{name: value for name, value in values.items() if name not in names})
    return config or make_config(settings), given


def saved_config(directory: RunDirectory, saved: dict[str, Any]) -> TrainConfig:
    """The configuration in what `read_config` returned; RunError if it does not describe a run."""
    source = str(directory.path / CONFIG)
    if saved["format"] < storage.FORMAT:
        raise RunError(
            f"{source} has format {saved['format']}: it was written by an earlier version, whose "
            "updates compute other numbers, and this version cannot continue it; train again. "
            f"Its policy can still be used: {command('evaluate', directory.path)}, or "
            f"policygrad.load({str(directory.path)!r})"
        )
    try:
        if not set(OBJECTS) >= set(saved["objects"]):
            raise TypeError(f"objects: {saved['objects']}")
        if not {"env", "env_kwargs"} <= saved.keys():
            raise KeyError("env, env_kwargs")
        return TrainConfig.from_json(dict(saved["config"]), source)
    except RunError:
        raise
    except UserError as error:
        raise RunError(f"{source}: {error}") from error
    except Exception as error:
        raise RunError(f"{source} does not hold the configuration of a run: {error!r}") from error


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """A configuration from settings by name; UserError if a name does not exist."""
    unknown = sorted(set(settings) - set(TrainConfig.__dataclass_fields__))
    if unknown:
        name, told = unknown[0], unknown_setting(unknown[0], TrainConfig.__dataclass_fields__)
        if name in SAME and callable(settings[name]):
            told += f"; {in_place_of_a_function(SAME[name])}"
        raise UserError(told)
    return TrainConfig(**settings)
