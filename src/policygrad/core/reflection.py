"""The settings of a record: their names, ranges, defaults and help, read from its class."""

import ast
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, get_type_hints


class Setting(NamedTuple):
    """One setting of a record.

    Attributes:
        name: of the setting; a field may go by another, as PPO's epochs by ppo_epochs.
        field: of the record.
        kind: its annotation.
        default: of the record.
        help: what stands below the field.
    """

    name: str
    field: str
    kind: Any
    default: Any
    help: str


@cache
def settings_of(record: type) -> tuple[Setting, ...]:
    """The settings of a record's class, in order; values that are no settings left out."""
    helps = _helps(record)
    try:
        kinds = get_type_hints(record, include_extras=True)
    except (AttributeError, NameError, SyntaxError, TypeError):
        # some annotation is kept as text that means nothing here: of such a field no range is known
        fields = dataclasses.fields(record)
        kinds = {f.name: Any if isinstance(f.type, str) else f.type for f in fields}
    return tuple(
        Setting(f.metadata.get("setting", f.name), f.name, kinds[f.name], f.default, helps[f.name])
        for f in dataclasses.fields(record)
        if f.name in helps
    )


def _helps(record: type) -> dict[str, str]:
    """The sentence below each field, of a class and of those that it extends."""
    found: dict[str, str] = {}
    for cls in reversed(record.__mro__[:-1]):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body[0]
        except (OSError, TypeError, SyntaxError, IndexError):  # typed at a prompt: it has no flags
            continue
        if not isinstance(body, ast.ClassDef) or body.name != cls.__name__:
            continue
        for node, after in zip(body.body, body.body[1:], strict=False):
            below = after.value if isinstance(after, ast.Expr) else None
            text = below.value if isinstance(below, ast.Constant) else None
            if isinstance(node, ast.AnnAssign) and isinstance(text, str):
                found[ast.unparse(node.target)] = " ".join(text.split())
    return found


def names_of(record: type) -> frozenset[str]:
    """The names of a record's settings."""
    return frozenset(s.name for s in settings_of(record))


def build(record: type, values: Mapping[str, Any], **more: Any) -> Any:
    """A record from settings by name; what it does not read is left out."""
    own = {s.field: values[s.name] for s in settings_of(record) if s.name in values}
    return record(**own, **more)


def values_of(record: Any) -> Iterator[tuple[str, Any]]:
    """The settings of a record, by name."""
    for setting in settings_of(type(record)):
        yield setting.name, getattr(record, setting.field)


def name_in(table: Mapping[str, type], record: Any) -> str | None:
    """The name of a record's class in a table; None for one of the user's own."""
    return next((name for name, cls in table.items() if type(record) is cls), None)
