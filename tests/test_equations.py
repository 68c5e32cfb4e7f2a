"""docs/equations.md names one function a tag, and that function's docstring cites the tag."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "equations.md").read_text()
ROWS = re.findall(r"^\| (E\d+|GAE) \| .* \| `([\w.]+)` \|$", PAGE, flags=re.MULTILINE)
TAGS = ("E0", "E1", "E2", "E3", "E4", "E5", "E6", "E8", "E9", "E10", "E11", "E12", "E13", "GAE")


def test_every_tag_has_one_row():
    assert tuple(tag for tag, _ in ROWS) == TAGS
    names = [name for _, name in ROWS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("tag", "name"), ROWS)
def test_the_function_exists_and_cites_its_tag(tag, name):
    module, _, attribute = name.rpartition(".")
    docstring = getattr(importlib.import_module(module), attribute).__doc__
    assert re.search(rf"\b{tag}\b", docstring), f"{name} does not cite {tag}"
    for section in ("Args:", "Returns:", "Bias:", "Source:"):
        assert section in docstring, f"{name} lacks the section {section}"
