"""Training a policy from nothing, and from where a run stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optax

from policygrad import environments
from policygrad.core.errors import RunError, UserError
from policygrad.gradients.estimators import Estimator
from policygrad.runs import RunDirectory
from policygrad.runs.directory import CONFIG
from policygrad.training.config import TrainConfig
from policygrad.training.session import OnUpdate, Run, Session


def train(
    env: Any,
    *,
    out: str | Path | None = None,
    policy: Any = None,
    estimator: Estimator | str | None = None,
    optimiser: optax.GradientTransformation | str | None = None,
    env_kwargs: dict[str, Any] | None = None,
    on_update: OnUpdate | None = None,
    config: TrainConfig | None = None,
    **settings: Any,
) -> Run:
    """Train a policy by the algorithm that the settings name: vanilla policy gradient by default.

    Args:
        env: an id (`CartPole-v1`, `module:Env-v0`, `gymnax/CartPole-v1`), a function that makes a
            Gymnasium environment, a vector environment, or a JAX-native environment.
        out: directory to write the run to; None writes nothing.
        policy: any pytree observation -> `Distribution`; None builds a network for the spaces.
        estimator: what multiplies each score: a value of `estimators`, or a setting's name.
        optimiser: direction-giving optax transformation without a step size of its own, such as
            `optax.scale_by_adam()`, or a name as in the settings.
        env_kwargs: passed to the environment where it is made from an id.
        on_update: called with the metrics of every update.
        config: a whole configuration; or
        settings: its fields by name, `seed=1, total_steps=100_000` for instance.

    Returns:
        The run: policy, metrics, summary.

    Raises:
        UserError: something that was asked for is out of range, unknown or unsupported.
        NonFiniteError: an observation, a reward or the gradient is NaN or infinite.
        EnvironmentFailure: the environment raised.
    """
    if isinstance(estimator, str):
        settings["estimator"], estimator = estimator, None
    if isinstance(optimiser, str):
        settings["optimiser"], optimiser = optimiser, None
    if config is not None and settings:
        raise UserError(f"give config or settings, not both; got config and {sorted(settings)}")
    config = config or make_config(settings)
    if out is not None:
        RunDirectory.check_free(Path(out))
    env = environments.choose_engine(env, processes=config.processes, kwargs=env_kwargs)
    session = Session.start(env, config, policy, estimator, optimiser, env_kwargs or {})
    if out is not None:  # only now, so that a mistake above leaves nothing behind
        session.open_directory(RunDirectory.create(Path(out)))
    return session.run(on_update)


def resume(
    path: str | Path,
    *,
    total_steps: int | None = None,
    env: Any = None,
    policy: Any = None,
    estimator: Estimator | None = None,
    optimiser: optax.GradientTransformation | None = None,
    on_update: OnUpdate | None = None,
) -> Run:
    """Continue a run from its newest checkpoint, as if it had never stopped.

    Args:
        path: the run directory.
        total_steps: train to this total in place of the one asked for at first.
        env, policy, estimator, optimiser: what was passed to `train` as an object, which no file
            holds; they must be passed again.
        on_update: called with the metrics of every update.

    Returns:
        The run. `summary["resumed_exactly"]` is False where the environments could not be brought
        back to where they were, and began fresh episodes.

    Raises:
        RunError: no run there, or one that is damaged, of a newer format, or already complete.
        UserError: an object that is needed was not passed.
    """
    directory = RunDirectory.open(Path(path))
    saved = directory.read_config()
    given = {"env": env, "policy": policy, "estimator": estimator, "optimiser": optimiser}
    config = saved_config(directory, saved)
    for name in saved["objects"]:
        if given[name] is None:
            raise UserError(
                f"{directory.path} was trained with a {name} passed as an object; continue it in "
                f"Python: policygrad.resume({str(path)!r}, {name}=...)"
            )
    if total_steps is not None:
        config = replace(config, total_steps=total_steps)
    session = Session.start(
        saved["env"] if env is None else env,
        config,
        policy,
        estimator,
        optimiser,
        saved["env_kwargs"],
    )
    session.continue_from(directory)
    return session.run(on_update)


OBJECTS = ("env", "policy", "estimator", "optimiser")


def saved_config(directory: RunDirectory, saved: dict[str, Any]) -> TrainConfig:
    """The configuration in what `read_config` returned; RunError where it is not one of a run."""
    source = str(directory.path / CONFIG)
    try:
        if not set(OBJECTS) >= set(saved["objects"]):
            raise TypeError(f"objects: {saved['objects']}")
        if not {"env", "env_kwargs"} <= saved.keys():
            raise KeyError("env, env_kwargs")
        return TrainConfig.from_json(dict(saved["config"]), source)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{source} is no configuration of a run: {error!r}") from error


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """A configuration from settings by name; UserError names one that does not exist."""
    unknown = sorted(set(settings) - set(TrainConfig.__dataclass_fields__))
    if unknown:
        hint = environments.nearest(unknown[0], list(TrainConfig.__dataclass_fields__))
        raise UserError(f"unknown setting {unknown[0]!r}{hint}")
    return TrainConfig(**settings)
