"""Settings from a file: the `config.json` of a run, or TOML, YAML or JSON of one's own."""

import contextlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policygrad.core.elsewhere import in_a_file
from policygrad.core.errors import RunError, UserError
from policygrad.core.reflection import names_of
from policygrad.core.settings import flag
from policygrad.core.shell import user_path
from policygrad.runs import config_file
from policygrad.runs.directory import CONFIG
from policygrad.training.config import FileSettings, TrainConfig
from policygrad.training.history import checksum_of

KEYS = ("env", "env_kwargs", "from")  # of a file, beside the settings


@dataclass(frozen=True)
class Plan:
    """What a file of settings asks for.

    Attributes:
        source: the file.
        env: the environment's id; None if the file names none.
        env_kwargs: arguments of the environment.
        settings: by name, as the file has them.
        start: the run, checkpoint or policy file to begin from; None to begin afresh.
        start_checksum: of the policy there, if the file tells it.
        lacks_start: whether the run began from a policy that its file cannot name.
        changed: settings that were others when the run began, so that it is not repeated from its
            first step on.
        asked: the settings that were asked for, where the others are what followed from the choices
            of a run; None where that is not known, or all were.
    """

    source: Path
    env: str | None
    env_kwargs: dict[str, Any]
    settings: dict[str, Any]
    start: str | None = None
    start_checksum: str | None = None
    lacks_start: bool = False
    changed: tuple[str, ...] = ()
    asked: tuple[str, ...] | None = None

    def beside(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """The settings to take from the file beside choices that are made elsewhere.

        What followed from the run's own choices does not hold beside others.

        Args:
            choices: by name.
        """
        same = all(self.settings.get(name) == value for name, value in choices.items())
        if same or self.asked is None:
            return self.settings
        return {k: v for k, v in self.settings.items() if k in self.asked}

    @property
    def config(self) -> TrainConfig:
        """The settings as a configuration; UserError, which names the key, if one is not valid."""
        with self.named_in_errors():
            return TrainConfig(**self.settings)

    @contextlib.contextmanager
    def named_in_errors(self, overridden: Iterable[str] = ()) -> Iterator[None]:
        """An error about a setting that is the file's names the file and the key.

        Args:
            overridden: settings that were given elsewhere, and are not the file's any more.
        """
        try:
            yield
        except UserError as error:
            mine = self.settings.keys() - set(overridden)
            keys = [key for key in self.settings if key in mine and _names(str(error), key)]
            if not keys or str(self.source) in str(error):
                raise
            raise UserError(f"{self.source}, {', '.join(keys)}: {error}") from error

    def check_start(self) -> None:
        """UserError where the run began from a policy that is not at hand any more."""
        if self.lacks_start:
            raise UserError(
                f"{self.source} is of a run that began from a policy passed in Python, which no "
                "file holds; give one: --from RUN, or start= in Python"
            )
        if self.start is None or self.start_checksum is None:
            return
        if checksum_of(user_path(self.start)) != self.start_checksum:
            raise UserError(
                f"{self.source} is of a run that began from the policy in {self.start}, which "
                "holds another one by now; give the one to begin from: --from RUN"
            )


def read_config(path: str | Path) -> Plan:
    """Read the settings of a run from a file.

    Args:
        path: a run's directory or its `config.json`, which repeats the run; or a file of one's own,
            whose ending is .toml, .yaml, .yml or .json, with `env`, `env_kwargs`, `from` and
            settings by name, each as `policygrad train --help` calls it.

    Returns:
        A `Plan`. `policygrad.train(plan.env, env_kwargs=plan.env_kwargs, config=plan.config)`
        trains as the file says.

    Raises:
        UserError: the file cannot be read, names something that is no setting, or is of a run that
            was given objects.
        RunError: a run's `config.json` is damaged or was edited.
    """
    source = user_path(path)
    if (source / CONFIG).is_file():
        source = source / CONFIG
    read = READERS.get(source.suffix.lower())
    if read is None:
        raise UserError(
            f"--config {source}: a file of settings ends in {', '.join(READERS)}; or name a run"
        )
    try:
        content = read(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read --config {source}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and each reader's own
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"--config {source} is no {source.suffix[1:].upper()}: {told}") from error
    if not isinstance(content, dict):
        raise UserError(f"--config {source} holds {content!r}, not settings by name")
    plan = _of_a_run(source) if "checksum" in content else _of_ones_own(source, content)
    _check(plan)
    return plan


def _of_a_run(source: Path) -> Plan:
    try:
        saved = config_file.read(source)
    except RunError as error:
        raise RunError(f"{error}; to use an edited copy, remove its checksum and format") from error
    _refuse_objects(source, saved)
    start = saved.get("from", {})
    asked = saved.get("asked")
    if saved.get("env") is None or not {"env_kwargs", "config"} <= saved.keys():
        raise RunError(f"{source} does not hold the configuration of a run")
    return Plan(
        source, saved["env"], saved["env_kwargs"], saved["config"], start.get("path"),
        start.get("sha256"),
        bool(saved.get("begins_from_a_policy")) and not start, _changed(saved),
        None if asked is None else tuple(asked),
    )  # fmt: skip


def _refuse_objects(source: Path, saved: dict[str, Any]) -> None:
    """UserError where a run was given what no file holds."""
    if objects := saved.get("objects"):
        raise UserError(
            f"{source} is of a run that was given {', '.join(map(str, objects))} as objects, which "
            "no file holds; train it in Python: policygrad.train(…)"
        )
    if names := saved.get("schedules"):
        raise UserError(
            f"{source} is of a run with schedules of {', '.join(map(str, names))}, which no file "
            "holds; train it in Python, and pass the same in on_update: policygrad.train(…)"
        )


def _changed(saved: dict[str, Any]) -> tuple[str, ...]:
    """Settings that were changed when a run was resumed, and that its numbers depend on."""
    names = {name for change in saved.get("changes", ()) for name in change["settings"]}
    without = names_of(FileSettings) | {"monitor_every"}
    if saved["config"].get("step_size_schedule") != "linear":
        without |= {"total_steps"}
    return tuple(sorted(names - without))


def _of_ones_own(source: Path, content: dict[str, Any]) -> Plan:
    """A file that was written by hand. A table `config`, as in a run's file, holds settings too."""
    settings: dict[str, Any] = {}
    of_runs = ("policygrad", "format", "objects", "values", "optimiser_steps", "versions",
               "begins_from_a_policy", "asked", "changes", "schedules")  # fmt: skip
    inner = content.get("config", {})
    if not isinstance(inner, dict):
        raise UserError(f"{source}, config: it must hold settings by name, got {inner!r}")
    outer = {k: v for k, v in content.items() if k != "config"}
    if "config" in content:  # an edited copy of a run's file
        _refuse_objects(source, content)
        outer = {k: v for k, v in outer.items() if k not in of_runs}
    for key, value in [*outer.items(), *inner.items()]:
        name = str(key).replace("-", "_")
        if name in settings:
            raise UserError(f"{source}, {key}: it is given twice")
        settings[name] = value
    env, kwargs, start = (settings.pop(key, None) for key in KEYS)
    if isinstance(start, dict):
        start = start.get("path")
    for key, value in (("env", env), ("from", start)):
        if value is not None and not isinstance(value, str):
            raise UserError(f"{source}, {key}: it must be text, got {value!r}")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise UserError(f"{source}, env_kwargs: it must hold arguments by name, got {kwargs!r}")
    return Plan(source, env, kwargs or {}, settings, start)


def _check(plan: Plan) -> None:
    known = TrainConfig.__dataclass_fields__
    for name in plan.settings:
        if name not in known:
            near = in_a_file(name, [*known, *KEYS])
            raise UserError(f"{plan.source}, {name}: there is no such setting{near}")
    _ = plan.config  # checks the values


def _names(message: str, setting: str) -> bool:
    """Whether a message is about a setting."""
    return re.search(rf"{flag(setting)}(?![\w-])", message) is not None


def _json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"{twice!r} is given twice")
        return found

    return json.loads(text, object_pairs_hook=once)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise UserError(
            "--config of a YAML file needs PyYAML; pip install 'policygrad[yaml]'"
        ) from error

    class Loader(yaml.SafeLoader):
        """YAML in which 1e-4 is a number, and no key is given twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [str(key.value) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise ValueError(f"{key!r} is given twice")
            return super().construct_mapping(node, deep)

    number = re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


READERS: dict[str, Callable[[str], Any]] = {
    ".json": _json,
    ".toml": tomllib.loads,
    ".yaml": _yaml,
    ".yml": _yaml,
}
