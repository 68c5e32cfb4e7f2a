"""The flags of a run, derived from the records that read them.

The command shows and takes only what the chosen algorithm, estimator, baseline and optimiser read.
So the choices are read first, and the parser is made from their records.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, field, fields, make_dataclass
from itertools import zip_longest
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, get_args

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from policygrad.algorithms.base import Schedule
from policygrad.core import reflection
from policygrad.core.elsewhere import translated
from policygrad.core.errors import UserError
from policygrad.core.reflection import Setting, settings_of
from policygrad.core.settings import chosen, flag
from policygrad.gradients.weights import TimeLimit
from policygrad.training import named_estimators
from policygrad.training.built_in import (
    AlgorithmName,
    BaselineName,
    EstimatorName,
    NetworkName,
    OptimiserName,
)
from policygrad.training.config import (
    SOMETIMES,
    BatchSettings,
    Choices,
    FileSettings,
    RunSettings,
    TrainConfig,
)
from policygrad.training.given import Given
from policygrad.training.plan import Plan
from policygrad.training.resolve import Records, records_of, refuse_unread

# the choices and the other settings that decide which settings are read
DECISIVE = ("algorithm", "estimator", "baseline", "optimiser", "time_limit", "batch_episodes")
CHOICES = {
    "algorithm": get_args(AlgorithmName),
    "estimator": get_args(EstimatorName),
    "baseline": get_args(BaselineName),
    "optimiser": get_args(OptimiserName),
    "time_limit": get_args(TimeLimit),
    "step_size_schedule": get_args(Schedule),
    "network": get_args(NetworkName),
}
LISTS = ("--hidden", "--critic-hidden")
POSITIONAL = get_args(Positional[str])[-1]  # what marks an annotation
ENVIRONMENT = ("num_envs", "processes", "lanes_per_block", "max_episode_steps")


class Argument(NamedTuple):
    """An argument of a command that is not a setting of a run.

    Attributes:
        name: the flag is made from it.
        kind: its annotation, with `tyro.conf.arg` for help.
        default: MISSING if the argument is required.
    """

    name: str
    kind: Any
    default: Any = MISSING


def parse(
    argv: Sequence[str],
    own: Mapping[str, Sequence[Argument]],
    *,
    prog: str,
    description: str,
    defaults: Mapping[str, Any] = MappingProxyType({}),
    plan: Plan | None = None,
) -> tuple[dict[str, Any], TrainConfig]:
    """The command's own arguments by name, and the configuration from the flags.

    Args:
        argv: what follows the name of the command.
        own: the command's own arguments, by the group that shows them; "" for no group.
        prog, description: shown by `--help`.
        defaults: settings whose default differs for this command.
        plan: a file of settings; flags override them.

    Raises:
        UserError: an unknown choice, or a setting that nothing reads with these choices.
    """
    argv = spelled(split_lists(argv))
    flags = flags_in(argv)
    if plan is None:
        return _parse(argv, flags, own, prog, description, defaults)
    chosen = {name: _number(flags[name]) for name in flags.keys() & set(DECISIVE)}
    with plan.named_in_errors(flags):
        return _parse(argv, flags, own, prog, description, {**defaults, **plan.beside(chosen)})


def _parse(
    argv: Sequence[str],
    flags: Mapping[str, str | None],
    own: Mapping[str, Sequence[Argument]],
    prog: str,
    description: str,
    defaults: Mapping[str, Any],
) -> tuple[dict[str, Any], TrainConfig]:
    peeked = {name: _number(value) for name, value in flags.items() if name in DECISIVE}
    if not {"-h", "--help"} & set(argv):
        peeked = {name: value for name, value in peeked.items() if value is not None}
    config = TrainConfig(**{**defaults, **{k: v for k, v in peeked.items() if v is not None}})
    records = records_of(config, Given())
    asked = flags.keys() | {name for name, value in defaults.items() if value is not None}
    refuse_unread(asked & (SOMETIMES.keys() | {"optimiser"}), config, Given(), records)

    settings_by_group = _groups(config, records)
    first = [title for title in own if title not in settings_by_group]
    shown = {
        title: [*own.get(title, ()), *settings_by_group.get(title, ())]
        for title in [*first, *settings_by_group]
    }
    arguments = [a for group in shown.values() for a in group]
    refuse_translated(flags, {a.name for a in arguments if not _is_positional(a)})
    values = parse_arguments(argv, shown, prog=prog, description=description)
    settings = {f.name for f in fields(TrainConfig)}
    given = {name: values[name] for name in flags.keys() & settings}
    names = {a.name for arguments in own.values() for a in arguments}
    return {name: values[name] for name in names}, TrainConfig(**{**defaults, **given})


def parse_arguments(
    argv: Sequence[str], shown: Mapping[str, Sequence[Argument]], *, prog: str, description: str
) -> dict[str, Any]:
    """The values of arguments by name.

    Args:
        argv: what follows the name of the command.
        shown: the arguments, by the group that shows them; "" for no group.
        prog, description: shown by `--help`.
    """
    groups = {title: arguments for title, arguments in shown.items() if title}
    made: list[Any] = [_as_field(a) for a in shown[""]]
    for title, arguments in groups.items():
        group = make_dataclass(title.capitalize(), [_as_field(a) for a in arguments], frozen=True)
        made.append((title, OmitArgPrefixes[group], field(default_factory=group)))
    whole = make_dataclass("Arguments", made, frozen=True)
    parsed = tyro.cli(whole, args=argv, prog=prog, description=description)
    values = {a.name: getattr(parsed, a.name) for a in shown[""]}
    for title in groups:
        group = getattr(parsed, title)
        values |= {f.name: getattr(group, f.name) for f in fields(group)}
    return values


def refuse_translated(flags: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError for a flag that another library has, with what there is in its place."""
    for name in flags:
        hint = None if name in set(known) else translated(name, flags=True)
        if hint is not None:
            raise UserError(f"unknown flag {flag(name)}; {hint}")


def _is_positional(argument: Argument) -> bool:
    """Whether an argument has no flag."""
    return POSITIONAL in getattr(argument.kind, "__metadata__", ())


def _groups(config: TrainConfig, records: Records) -> dict[str, list[Argument]]:
    """The settings that are read, by the group that shows them."""

    def of(record: Any, *names: str, without: Sequence[str] = ()) -> list[Argument]:
        values = dict(reflection.values_of(record))
        return [
            setting_argument(s, values[s.name])
            for s in settings_of(type(record))
            if (not names or s.name in names) and s.name not in without
        ]

    def always(cls: type, *names: str, without: Sequence[str] = ()) -> list[Argument]:
        return [
            setting_argument(s, getattr(config, s.name))
            for s in settings_of(cls)
            if (not names or s.name in names) and s.name not in without
        ]

    optimiser = getattr(records.algorithm, "optimiser", None)
    chosen = [_choice("algorithm", AlgorithmName, config.algorithm)]
    if records.optimiser is not None:
        chosen.append(_choice("optimiser", OptimiserName, records.optimiser))
    groups = {
        "run": always(RunSettings),
        "environment": always(BatchSettings, *ENVIRONMENT),
        "batch": always(BatchSettings, without=ENVIRONMENT),
        "policy": of(records.policy),
        "algorithm": [*chosen, *of(records.algorithm), *(of(optimiser) if optimiser else [])],
        "estimator": [
            _choice("estimator", EstimatorName, config.estimator),
            *_baseline_of(config),
            *of(records.estimator),
        ],
        "critic": of(records.critic),
        "files": always(FileSettings),
    }
    if not records.read >= reflection.names_of(type(records.critic)):
        del groups["critic"]
    return groups


def _baseline_of(config: TrainConfig) -> list[Argument]:
    """The choice of a baseline, unless the estimator has its own."""
    default = config.baseline or named_estimators.baseline_of(config)
    return [] if default is None else [_choice("baseline", BaselineName, default)]


def _choice(name: str, kind: Any, default: Any) -> Argument:
    (text,) = (s.help for s in settings_of(Choices) if s.name == name)
    return Argument(name, Annotated[kind, arg(help=text)], default)


def setting_argument(setting: Setting, default: Any) -> Argument:
    """The argument of a setting."""
    return Argument(setting.name, Annotated[setting.kind, arg(help=setting.help)], default)


def _as_field(argument: Argument) -> tuple[str, Any, Any]:
    return argument.name, argument.kind, field(default=argument.default)


def flags_in(argv: Sequence[str]) -> dict[str, str | None]:
    """The flags that were given, as names of settings, and the text after each, if any."""
    found: dict[str, str | None] = {}
    for word, following in zip_longest(argv, argv[1:]):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if name.startswith("no_") and name not in SOMETIMES:
            name = name[3:]
        follows = following is not None and not following.startswith("--")
        found[name] = value if equals else following if follows else None
    return found


def spelled(argv: Sequence[str]) -> list[str]:
    """Choices in this library's spelling; a user may write them in any case, with _ or -.

    Raises:
        UserError: a choice that does not exist, with the nearest one.
    """
    words = {flag(name): options for name, options in CHOICES.items()}
    out: list[str] = []
    for word in argv:
        name, equals, value = word.partition("=")
        if equals and name in words:
            out.append(f"{name}={chosen(name[2:], value, words[name])}")
        elif out and out[-1] in words and not word.startswith("-"):
            out.append(chosen(out[-1][2:], word, words[out[-1]]))
        else:
            out.append(word)
    return out


def _number(text: str | None) -> Any:
    return int(text) if text is not None and text.isdigit() else text


def split_lists(argv: Sequence[str]) -> list[str]:
    """`--hidden 64,64` as `--hidden 64 64`: both spellings are in use."""
    out: list[str] = []
    for argument in argv:
        name, equals, sizes = argument.partition("=")
        if name in LISTS and equals:
            out += [name, *sizes.split(",")]
        elif out and out[-1] in LISTS and "," in argument:
            out += argument.split(",")
        else:
            out.append(argument)
    return out
