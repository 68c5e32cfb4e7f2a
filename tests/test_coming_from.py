"""The page for users of other libraries agrees with what an unknown setting is answered."""

import re
from pathlib import Path

from policygrad.core.elsewhere import SAME, UNLIKE

PAGE = (Path(__file__).parents[1] / "docs" / "coming-from.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its first two lines."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_names_of_settings_with_the_same_values():
    found = rows("With the same values")
    assert len(found) > 15
    for *theirs, ours in found:
        names = {re.sub("`", "", name) for name in theirs if name}
        for name in names - {ours.strip("`")}:
            assert f"`{SAME[name]}`" == ours, name


def test_settings_with_other_values_have_a_hint():
    found = rows("With other values")
    assert len(found) > 8
    for theirs, _ in found:
        for name in re.findall("`([a-z_]+)`", theirs):
            assert name in {*UNLIKE, "learning_rate"}, name
