"""docs/metrics.md and docs/run-files.md name what real runs write, and nothing else."""

import json
import re
from pathlib import Path

import pytest

import policygrad
from policygrad import callbacks
from policygrad.training.built_in import ALGORITHMS
from policygrad.training.metrics import NAMES
from tests.worlds import PLAIN, Chain

DOCS = Path(__file__).parents[2] / "docs"
PER_WORKER = {"worker_restarts", "inexact_restarts"}
OF_OTHERS = {  # which neither the library's rows nor an algorithm makes
    *callbacks.EVALUATED, "info/NAME", "info_sum/NAME", "transport_seconds", *PER_WORKER
}  # fmt: skip


def tables(page):
    """By heading, the first column of its tables: name -> the other cells."""
    found = {}
    for section in re.split(r"^##? ", (DOCS / page).read_text(), flags=re.MULTILINE)[1:]:
        rows = found.setdefault(section.splitlines()[0], {})
        for line in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE):
            first, *others = line.split(" | ")
            rows |= dict.fromkeys(re.findall(r"`([^`]+)`", first), others)
    return found


METRICS, FILES = tables("metrics.md"), tables("run-files.md")


@pytest.fixture(scope="module", params=ALGORITHMS)
def run(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "a"
    return policygrad.train(Chain, algorithm=request.param, out=out, **PLAIN)


def test_every_line_holds_the_metrics_of_the_page(run):
    of_one = METRICS["Of one algorithm"]
    own = {name for name, (algorithm, *_) in of_one.items() if algorithm == run.config.algorithm}
    for line in (run.path / "metrics.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == METRICS["In every line"].keys() | own


def test_the_page_holds_every_metric_of_the_library():
    named = METRICS["In every line"].keys() | METRICS["Where they are asked for"].keys()
    assert named == NAMES | OF_OTHERS | {"crc32"}


def test_a_run_writes_the_files_of_the_page(run):
    written = {path.name for path in run.path.iterdir()}
    named = {name.split("/")[0] for name in FILES["The files of a run"]}
    assert written <= named
    first = {"config.json", "metrics.jsonl", "summary.json", "policy.json", "policy.safetensors"}
    assert first | {"checkpoints", "learning_curve.png"} <= written


def test_the_summary_holds_the_entries_of_the_page(run):
    saved = json.loads((run.path / "summary.json").read_text())
    assert saved.keys() - {"checksum", "format"} == FILES["summary.json"].keys() - PER_WORKER
