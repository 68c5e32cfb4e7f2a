"""What a run is made of beside its configuration: trained in this process, or sent to another."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from policygrad.processes.sending import Sent
from policygrad.runs import RunDirectory
from policygrad.runs.directory import CONFIG
from policygrad.runs.policy_files import load
from policygrad.training.assembly import Assembly, Task, assemble
from policygrad.training.config import TrainConfig
from policygrad.training.entry import begun_directory
from policygrad.training.given import Given
from policygrad.training.history import History, rebuilds_policy
from policygrad.training.loop import Training
from policygrad.training.ongoing import OnUpdate
from policygrad.training.result import Run
from policygrad.training.signals import StopRequest

OF_JAX = (  # its settings that hold for a run in whatever process
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_enable_compilation_cache",
    "jax_enable_x64",
)


@dataclass(frozen=True)
class Recipe:
    """What runs have in common that differ in their configurations.

    Attributes:
        task: the environment.
        given: values that were passed in place of names.
        history: where a policy that was passed came from.
    """

    task: Task
    given: Given
    history: History = field(default_factory=History)

    def assemble(self, config: TrainConfig) -> Assembly:
        """The values of a run."""
        return assemble(self.task, config, self.given, self.history)

    def train(
        self,
        config: TrainConfig,
        path: Path | None,
        on_update: OnUpdate | None = None,
        stop: StopRequest | None = None,
    ) -> Run:
        """Train one run, as `train` does.

        Args:
            config: of the run.
            path: its directory; None to write nothing.
            on_update: callbacks.
            stop: asks the run to end, in place of signals.
        """
        assembly = self.assemble(config)
        with begun_directory(path) as directory:
            return Training.begin(assembly, directory).run(on_update, stop)

    def train_on(
        self, config: TrainConfig, path: Path, on_update: OnUpdate, stop: StopRequest
    ) -> Run:
        """Train one run, or go on with it where another process has begun it and is gone.

        Args:
            config, path, on_update, stop: as of `train`.
        """
        if not (path / CONFIG).exists():
            return self.train(config, path, on_update, stop)
        directory = RunDirectory.open(path)
        with directory.held():
            assembly = self.assemble(config)
            return Training.resume(assembly, directory).run(on_update, stop)

    def read(self, path: Path) -> Run:
        """The run that another process trained into this directory."""
        directory = RunDirectory.open(path)
        saved, summary = directory.read_config(), directory.read_summary()
        passed = None if rebuilds_policy(self.given) else self.given.policy
        like = {"like": passed, "network": self.given.network}
        return Run(
            path,
            TrainConfig.from_json(dict(saved["config"]), str(path)),
            load(path, **{name: value for name, value in like.items() if value is not None}),
            summary,
            self.task.env,
            summary["interrupted"],
            self.task.env_kwargs,
            self.task.engine,
        )

    def sent(self) -> "SentRecipe":
        """The recipe as other processes read it.

        Raises:
            UserError: a part of it cannot be sent.
        """
        task = self.task
        if callable(task.env):
            make: Callable[..., Any] = task.env
            task = replace(task, env=Sent.by_content("env", make))
        for name, value in {**vars(task), **vars(self.given)}.items():
            Sent.by_name(name, value)  # alone, so that the error names it
        settings = {name: getattr(jax.config, name) for name in OF_JAX}
        return SentRecipe(settings, Sent.by_name("the run", replace(self, task=task)))


class SentRecipe(NamedTuple):
    """A recipe on its way to another process.

    Attributes:
        settings: of JAX, which hold there too.
        recipe: its environment may be `Sent` by itself.
    """

    settings: dict[str, Any]
    recipe: Sent

    def read(self) -> Recipe:
        """The recipe, in the process that it was sent to; JAX is set there as where it came from.

        Raises:
            UserError: it cannot be read there.
        """
        for name, value in self.settings.items():  # first: an array may have 64 bits
            jax.config.update(name, value)
        recipe: Recipe = self.recipe.read()
        if not isinstance(recipe.task.env, Sent):
            return recipe
        return replace(recipe, task=replace(recipe.task, env=recipe.task.env.read()))
