"""The run that is examined: what its files hold, and the objects that no file holds."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from policygrad import environments
from policygrad.core.errors import RunError, UserError
from policygrad.diagnostics.examination import Examination, Origin, series_of
from policygrad.policies import Agent, SpacePolicy
from policygrad.rollout.blocks import Lanes
from policygrad.rollout.engines import limit_kept, open_source
from policygrad.rollout.source import Source
from policygrad.runs import RunDirectory
from policygrad.runs.policy_files import load
from policygrad.training import entry
from policygrad.training.given import Given
from policygrad.training.resolve import Resolved, resolve

READ = ("policy", "algorithm", "estimator", "network")  # what the doctor reads of a run's objects


@dataclass(frozen=True)
class Subject:
    """A run, and the objects that were passed again.

    Attributes:
        directory: of the run.
        saved: what `config.json` holds.
        resolved: the value of every setting; a part that was passed as an object has its default.
        objects: what was passed, by name.
    """

    directory: RunDirectory
    saved: dict[str, Any]
    resolved: Resolved
    objects: dict[str, Any]

    @classmethod
    def of(cls, path: Path, objects: dict[str, Any]) -> "Subject":
        """The run of a directory.

        Raises:
            RunError: there is no run, or it is damaged.
            UserError: an object was passed for a part that the run's settings describe.
        """
        directory = RunDirectory.open(path)
        saved = directory.read_config()
        config = entry.saved_config(directory, saved)
        objects = {name: value for name, value in objects.items() if value is not None}
        for name in READ:
            rebuilt = name == "policy" and saved.get("begins_from_a_policy")
            if name in objects and name not in saved["objects"] and not rebuilt:
                raise UserError(
                    f"{path} was trained with the {name} of its settings, got {name}="
                    f"{objects[name]!r}; leave it out"
                )
        # a policy or a network that was passed has no settings, so neither is needed here
        given = Given(**{name: objects.get(name) for name in ("algorithm", "estimator")})
        return cls(directory, saved, resolve(config, given)[0], objects)

    def lacks(self, name: str) -> bool:
        """Whether an object was passed to `train`, but not passed again here."""
        return name in self.saved["objects"] and name not in self.objects

    def recorded(self) -> Examination:
        """What the run's files say, before anything is run."""
        metrics = series_of(self.directory.read_metrics())
        steps = metrics.get("env_steps", np.zeros(1))
        env, config = self.objects.get("env"), self.resolved.config
        found = Examination(
            env=self.saved["env"] if env is None else environments.describe(env),
            settings=config.to_json(),
            passed_as_objects=tuple(self.saved["objects"]),
            algorithm=None if self.lacks("algorithm") else self.resolved.algorithm,
            metrics=metrics,
            env_steps=int(steps[-1]) if len(steps) else 0,
            failure=self.directory.read_failure(),
            origin=self._origin(),
        )
        notes = []
        if not found.updates:
            notes.append("training: the run has no metrics yet, which most rules read")
        if found.algorithm is None:
            notes.append(f"the algorithm's settings: {self._pass_again('algorithm')}")
        return replace(found, notes=tuple(notes))

    def _origin(self) -> Origin:
        """How the run's files came about."""
        saved, written = self.saved, self.directory.last_written()
        asked, program = saved.get("asked"), saved.get("policygrad")
        own = {} if program is None else {"policygrad": str(program)}
        return Origin(
            written=None if written is None else datetime.fromtimestamp(written, UTC),
            versions={**own, **saved.get("versions", {})},
            env_kwargs=self.environment()[1],
            given=None if asked is None else tuple(asked),
            schedules=tuple(saved.get("schedules", ())),
        )

    def agent(self) -> Agent | str:
        """The newest policy with its spaces; or why there can be no fresh episodes."""
        missing = [name for name in ("env", "engine", "policy") if self.lacks(name)]
        if missing:
            return f"fresh episodes: {self._pass_again(*missing)}"
        policy, network = self.objects.get("policy"), self.objects.get("network")
        try:
            if policy is not None:  # only the critic used the network
                return load(self.directory.path, like=policy)
            return load(self.directory.path, network=network)
        except RunError:
            if self.lacks("network"):  # an architecture that is not the library's
                return f"fresh episodes: {self._pass_again('network')}"
            raise

    def missing_estimator(self) -> str | None:
        """Why gradients cannot be measured; None if they can."""
        return f"gradients: {self._pass_again('estimator')}" if self.lacks("estimator") else None

    def given(self, agent: Agent) -> Given:
        """The values that the estimator is built from."""
        network = self.objects.get("network")
        own_policy = "policy" in self.saved["objects"] or self.saved.get("begins_from_a_policy")
        shared = "network" in self.saved["objects"] and not own_policy
        if shared and isinstance(agent.policy, SpacePolicy):  # as it was read with the policy
            network = agent.policy.architecture
        return Given(estimator=self.objects.get("estimator"), network=network)

    def source(
        self, num_envs: int, *, processes: bool = False, step_timeout: float | None = None
    ) -> Source:
        """The run's environment, or the one that was passed.

        Args:
            num_envs: lanes to step together.
            processes: step them in worker processes.
            step_timeout: seconds that a step may take; None takes the run's own where a limit can
                be kept.
        """
        engine = self.objects.get("engine")
        env, kwargs = self.environment()
        if step_timeout is None:
            limit = self.resolved.config.step_timeout
            step_timeout = limit_kept(limit, env, engine=engine, processes=processes)
        return open_source(
            env, num_envs, engine=engine, processes=processes, kwargs=kwargs,
            step_timeout=step_timeout,
        )  # fmt: skip

    def lanes(self, num_envs: int, *, step_timeout: float | None = None) -> Lanes:
        """What opens the same environment in every worker; arguments as in `source`.

        Raises:
            UserError: an engine, or an environment that is open already.
        """
        engine = self.objects.get("engine")
        if engine is not None:
            raise UserError(
                f"engine={type(engine).__name__} opens environments in this process alone; leave "
                "workers out"
            )
        env, kwargs = self.environment()
        if step_timeout is None:
            limit = self.resolved.config.step_timeout
            step_timeout = limit_kept(limit, env, engine=None, processes=False)
        return Lanes(env, num_envs, num_envs, kwargs, step_timeout)

    def environment(self) -> tuple[Any, dict[str, Any]]:
        """The environment, and its arguments."""
        env, name = self.objects.get("env"), self.saved.get("values", {}).get("env")
        own = env is None or environments.is_that_of(env, self.saved["env"], name)
        return self.saved["env"] if env is None else env, self.saved["env_kwargs"] if own else {}

    def _pass_again(self, *names: str) -> str:
        call = f"policygrad.diagnose({str(self.directory.path)!r}"
        call = ", ".join([call, *(f"{name}=…" for name in names)])
        return f"training was given {' and '.join(names)} as objects; pass them again: {call})"
