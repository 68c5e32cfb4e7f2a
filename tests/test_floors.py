"""The house: a folder imports itself and the folders below it, and nothing above.

docs/design.md lists the folders from the ground up; this test reads the list there.
"""

import ast
import re
from pathlib import Path

import pytest

import policygrad

SOURCE = Path(policygrad.__file__).parent
DESIGN = (Path(__file__).parents[1] / "docs" / "design.md").read_text()
HOUSE = re.search(r"```text\nsrc/policygrad/\n(.*?)```", DESIGN, flags=re.DOTALL)
FLOORS = re.findall(r"^  (\w+)(?:/|\.py)\s", HOUSE[1], flags=re.MULTILINE)
FLOOR = {name: number for number, name in enumerate(FLOORS)}
FILES = sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py")


def floors_imported(path: Path) -> set[str]:
    """Folders of the package that a file imports from, wherever in the file it does."""
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
        ):
            names = [f"policygrad.{node.attr}"]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [x.value for x in node.args if isinstance(x, ast.Constant)]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {folder(p[1]) for p in parts if p[0] == "policygrad" and len(p) > 1}
    return found - {"__version__"}


def folder(name: str) -> str:
    """The folder behind a public name."""
    moved = {**policygrad.NAMES, **policygrad.MODULES}
    return name if name in FLOOR else moved.get(name, name).split(".")[0]


def test_the_design_shows_every_folder():
    there = {p.name.removesuffix(".py") for p in SOURCE.iterdir()}
    assert set(FLOORS) == there - {"__init__", "__init__.pyi", "__pycache__", "py.typed"}


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(SOURCE)) for p in FILES])
def test_floor_imports_nothing_above_it(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    above = {m for m in floors_imported(path) if FLOOR[m] > FLOOR[own]}
    assert not above, f"{path.name} ({own}) imports {sorted(above)}"


@pytest.mark.parametrize("package", [policygrad, policygrad.diagnostics])
def test_the_names_for_type_checkers_are_those_at_run_time(package):
    shown = Path(package.__file__).with_suffix(".pyi").read_text()
    names = re.findall(r" as ([a-zA-Z]\w*)$|^(\w+)(?: = |: )", shown, flags=re.MULTILINE)
    assert {name for pair in names for name in pair if name} == set(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__ if name != "torch")


def test_walk_sees_every_kind_of_import(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "import policygrad.maths.returns\nfrom policygrad import scores\n"
        "def f():\n    from policygrad.cli.commands import train\n    return policygrad.evaluate\n"
        "g = importlib.import_module('policygrad.doctor.subject')\n"
    )
    assert floors_imported(path) == {"maths", "gradients", "cli", "evaluating", "doctor"}
