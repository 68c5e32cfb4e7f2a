"""A report as files: the page, its pictures, and a JSON file with every number."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import policygrad
from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.diagnostics.clean_bill import doubts, healthy
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.findings import Finding
from policygrad.diagnostics.standing import standing_of
from policygrad.report.page import Report, page
from policygrad.report.pictures import PICTURES, figures_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(
    folder: Path,
    name: str,
    findings: Sequence[Finding] | None,
    examination: Examination,
    *,
    tried: Sequence[str] = (),
    further: Mapping[str, Any] = MappingProxyType({}),
) -> list[Path]:
    """Write `report.html`, its figures as PNG files, and `report.json` with every number.

    The page contains its pictures. It loads nothing: no script, no font, no network.

    Args:
        folder: made if it does not exist.
        name: the heading: the run or the environment that was looked at.
        findings: most likely cause first; None if no rule was applied.
        examination: what the findings follow from.
        tried: lines of text on what was trained to try the advice.
        further: its numbers by name, beside those of the diagnosis.

    Returns:
        The files that were written, the page first.

    Raises:
        UserError: the folder cannot be written.
    """
    pictures = {k: _png(figure) for k, figure in figures_of(examination).items()}
    versions = {each.__name__: each.__version__ for each in (policygrad, jax, np)}
    report = Report(
        name, findings, examination, datetime.now(UTC), versions, pictures, tuple(tried)
    )
    files: dict[str, bytes] = {
        "report.html": page(report).encode(),
        "report.json": (json.dumps(to_json(_numbers(report, further)), indent=1) + "\n").encode(),
        **{f"{k}.png": v for k, v in pictures.items()},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in PICTURES:  # remove those of an older report
            (folder / f"{picture.name}.png").unlink(missing_ok=True)
        for file, data in files.items():
            (folder / file).write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write --report {folder}: {error.strerror}") from error
    return [folder / file for file in files]


def _numbers(report: Report, further: Mapping[str, Any]) -> dict[str, Any]:
    x, origin = report.examination, report.examination.origin
    verdict = {} if report.findings is None else {
        "healthy": healthy(report.findings, x),
        "doubts": list(doubts(x)),
        "standing": to_json(standing_of(x)),
        "findings": [f.to_json() for f in report.findings],
    }  # fmt: skip
    return {
        "name": report.name,
        "made": report.made.isoformat(),
        "versions": dict(report.versions),
        "trained": {
            "written": None if origin.written is None else origin.written.isoformat(),
            "versions": dict(origin.versions),
            "env_kwargs": dict(origin.env_kwargs),
            "given": origin.given,
        },
        **verdict,
        "examination": x.to_json(),
        **further,
    }


def _png(figure: "Figure") -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", dpi=160)
    return out.getvalue()
