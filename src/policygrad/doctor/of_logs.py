"""The doctor on the log of another library: what is wrong, as far as the log tells."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from policygrad.core.shell import user_path
from policygrad.diagnostics.examination import Origin
from policygrad.diagnostics.rules import diagnose as apply_rules
from policygrad.diagnostics.rules import looked_at, not_looked_at
from policygrad.doctor.result import Diagnosis
from policygrad.logs import examine_table, read


def diagnose_logs(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """What is wrong with a run of another library, from what it logged.

    No environment is run and nothing is unpickled. A rule that needs more than the log says stays
    silent, and is listed with what it would need.

    Args:
        path: a log file, or the folder of one run: TensorBoard's event files (extra: logs),
            `progress.csv`, `monitor.csv`, `result.json`, `trainer_state.json`, JSON lines.
        columns: which of its columns hold what, `{"return": "score", "kl": "kl"}`; beside or
            instead of those of the library, if one is recognised.
        settings: what the log does not say, by the library's names, `{"gamma": 0.99}`.

    Raises:
        UserError: no log, a damaged one, several, or one that is not recognised; a file of pickles.
    """
    table = read(user_path(path))
    found = examine_table(table, columns, settings)
    found = replace(found, origin=Origin(_last_written(user_path(path), table.files)))
    rules = looked_at(found), not_looked_at(found)
    return Diagnosis(apply_rules(found), found, *rules, name=str(path))


def _last_written(path: Path, files: tuple[str, ...]) -> datetime | None:
    """When the newest of the files that were read was written."""
    below = [p for depth in ("*", "*/*", "*/*/*") for p in path.glob(depth) if p.name in files]
    times = [p.stat().st_mtime for p in ([path] if path.is_file() else below)]
    return datetime.fromtimestamp(max(times), UTC) if times else None
