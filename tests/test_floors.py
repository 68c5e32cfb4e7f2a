"""The house: a floor imports itself and the floors below it, and nothing above."""

import ast
from pathlib import Path

import pytest

import policygrad

SOURCE = Path(policygrad.__file__).parent
FLOORS = (
    ("types", "errors", "checks", "config", "processors", "programs", "threads", "chunks"),
    ("returns", "advantages", "distributions", "networks"),
    ("baselines", "scores", "estimators"),
    ("tabular",),
    ("environments", "policies", "rewards", "rollout", "statistics"),
    ("algorithms", "diagnostics"),
    (
        "batch_size",
        "building",
        "learning",
        "runs",
        "saved",
        "training",
        "session",
        "side_by_side",
        "seeds",
        "evaluation",
        "plots",
        "report",
        "doctor",
    ),
    ("cli",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules_imported(path: Path) -> set[str]:
    """Top-level modules of the package that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names]
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "policygrad"
        ):  # the package's own names are imported from where they live
            attribute = node.attr
            names = [f"{policygrad._NAMES.get(attribute, f'policygrad.{attribute}')}.x"]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {p[1] for p in parts if p[0] == "policygrad" and len(p) > 1}
    return found - {"__version__"}


FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SOURCE)) for p in FILES])
def test_floor_imports_nothing_above_it(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert own in FLOOR, f"{own} stands on no floor"
    above = {m for m in modules_imported(path) if FLOOR[m] > FLOOR[own]}
    assert not above, f"{path.name} (floor {FLOOR[own]}) imports {sorted(above)}"


def test_walk_sees_every_kind_of_import(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "import policygrad.returns\nfrom policygrad import scores\n"
        "def f():\n    from policygrad.cli.commands import train\n    return policygrad.evaluate\n"
    )
    assert modules_imported(path) == {"returns", "scores", "cli", "evaluation"}
