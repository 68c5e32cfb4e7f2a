"""`train` and `resume`: a new run, and the continuation of one."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import optax

from policygrad import environments
from policygrad.algorithms import Algorithm
from policygrad.core.elsewhere import unknown_setting
from policygrad.core.errors import RunError, UserError
from policygrad.gradients.weights import Estimator
from policygrad.policies.architectures import Architecture
from policygrad.policies.meeting import Policy
from policygrad.rollout.engines import Engine
from policygrad.runs import RunDirectory, storage
from policygrad.runs.directory import CONFIG
from policygrad.training.assembly import CollectorMaker, Task, assemble
from policygrad.training.checkpoint import check_steps_left
from policygrad.training.config import TrainConfig
from policygrad.training.loop import Training
from policygrad.training.metrics import OnUpdate
from policygrad.training.own_values import agree, check_arguments, described
from policygrad.training.resolve import Given
from policygrad.training.result import Run
from policygrad.training.schedule import little_left

OBJECTS = ("env", "engine", "collector", "policy", "algorithm", "estimator", "optimiser", "network")


def train(
    env: Any,
    *,
    out: str | Path | None = None,
    policy: Policy | None = None,
    algorithm: Algorithm | str | None = None,
    estimator: Estimator | str | None = None,
    optimiser: optax.GradientTransformation | str | None = None,
    network: Architecture | None = None,
    engine: Engine | None = None,
    collector: CollectorMaker | None = None,
    env_kwargs: dict[str, Any] | None = None,
    on_update: OnUpdate | None = None,
    config: TrainConfig | None = None,
    **settings: Any,
) -> Run:
    """Train a policy: by default by the vanilla policy gradient, with GAE and a value network.

    Args:
        env: an id (`CartPole-v1`, `module:Env-v0`, `gymnax/CartPole-v1`), a function that makes a
            Gymnasium environment, a vector environment, or a JAX-native environment.
        out: directory to write the run to; None writes nothing.
        policy: any pytree observation -> `Distribution`; None builds a network for the spaces.
        algorithm: a record, such as `algorithms.Natural(target_kl=0.02)`, or a name.
        estimator: what multiplies each score: a value of `estimators`, or a name.
        optimiser: an optax transformation: one such as `optax.adam(3e-4)`, whose own steps are
            taken, or as `optax.scale_by_adam()`, whose direction `step_size` multiplies; or a name.
        network: an architecture of policy and critic; None for tanh layers of the sizes `hidden`.
        engine: what opens `env` as a source of steps; None for the library's own engines.
        collector: (source, policy, key, config) -> a collector, which fills batches; None for the
            source's own.
        env_kwargs: passed to the environment if it is made from an id.
        on_update: called with the metrics of every update.
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
    check_arguments(
        out=out, policy=policy, network=network, collector=collector, env_kwargs=env_kwargs,
        on_update=on_update, config=config,
    )  # fmt: skip
    config, given = asked_for(
        config, settings, policy=policy, algorithm=algorithm, estimator=estimator,
        optimiser=optimiser, network=network,
    )  # fmt: skip
    if out is not None:
        RunDirectory.check_free(Path(out))
    if engine is None:
        env = environments.choose_engine(env, processes=config.processes, kwargs=env_kwargs)
    assembly = assemble(Task(env, env_kwargs or {}, engine, collector), config, given)
    # only now, so that an error above leaves no directory behind
    directory = None if out is None else RunDirectory.create(Path(out))
    return Training.begin(assembly, directory).run(on_update)


def resume(
    path: str | Path,
    *,
    total_steps: int | None = None,
    on_update: OnUpdate | None = None,
    **objects: Any,
) -> Run:
    """Continue a run from its newest checkpoint, as if it had never stopped.

    Args:
        path: the run directory.
        total_steps: new total number of steps; None for the run's own.
        on_update: called with the metrics of every update.
        objects: env, engine, collector, policy, algorithm, estimator, optimiser, network: those
            that were passed to `train` as objects. No file holds them, so they must be passed
            again.

    Returns:
        The run. `summary["resumed_exactly"]` is False if the environments could not be brought back
        to where they were, and began fresh episodes.

    Raises:
        RunError: there is no run, or it is damaged or of another format.
        UserError: an object that is needed was not passed, or another one was; or the run has all
            its steps already.
    """
    unknown = sorted(set(objects) - set(OBJECTS))
    if unknown:
        raise UserError(f"resume takes no {unknown[0]!r}; it takes {', '.join(OBJECTS)}")
    directory = RunDirectory.open(Path(path))
    saved = directory.read_config()
    config = saved_config(directory, saved)
    _check_objects(directory, saved, objects)
    if total_steps is not None:
        config = replace(config, total_steps=total_steps)
    steps = check_steps_left(directory, config.total_steps)
    env = objects.pop("env", None)
    task = Task(
        saved["env"] if env is None else env,
        saved["env_kwargs"],
        objects.pop("engine", None),
        objects.pop("collector", None),
    )
    assembly = assemble(task, config, Given(**objects))
    told = little_left(assembly.schedule, steps, config.total_steps)
    if told is not None:
        warnings.warn(f"{directory.path}: {told}", stacklevel=2)
    return Training.resume(assembly, directory).run(on_update)


def _check_objects(directory: RunDirectory, saved: dict[str, Any], objects: dict[str, Any]) -> None:
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
    for name, value in passed.items():
        if name not in wanted and name != "env":
            raise UserError(
                f"{path} was trained without a {name} passed as an object, got {name}={value!r}; "
                "leave it out"
            )
        was = saved.get("values", {}).get(name)
        now = described(value)
        if was is None or agree(was, now):
            continue
        told = f"{path} was trained with another {name}: {was}, got {now}"
        if not agree(was, now, classes_alone=True):
            raise UserError(f"{told}; pass one of the same class")
        warnings.warn(f"{told}; the run goes on with the new settings", stacklevel=3)


def asked_for(
    config: TrainConfig | None, settings: dict[str, Any], **values: Any
) -> tuple[TrainConfig, Given]:
    """A configuration, and the values in place of names; names among the values are settings."""
    names = {name: value for name, value in values.items() if isinstance(value, str)}
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
            f"Its policy can still be used: policygrad evaluate {directory.path}, or "
            f"policygrad.load({str(directory.path)!r})"
        )
    try:
        if not set(OBJECTS) >= set(saved["objects"]):
            raise TypeError(f"objects: {saved['objects']}")
        if not {"env", "env_kwargs"} <= saved.keys():
            raise KeyError("env, env_kwargs")
        return TrainConfig.from_json(dict(saved["config"]), source)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{source} does not hold the configuration of a run: {error!r}") from error


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """A configuration from settings by name; UserError if a name does not exist."""
    unknown = sorted(set(settings) - set(TrainConfig.__dataclass_fields__))
    if unknown:
        raise UserError(unknown_setting(unknown[0], TrainConfig.__dataclass_fields__))
    return TrainConfig(**settings)
