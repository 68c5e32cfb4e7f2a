"""How the page looks: what is read stands out enough from what it stands on, light and dark."""

import re
from itertools import product

import pytest

from policygrad.report.style import DARK, LIGHT, ON_PAPER, RULES, STYLE

PANELS = ("page", "panel", "fault-panel", "good-panel")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2.2 defines it."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("colours", [LIGHT, DARK, ON_PAPER], ids=["light", "dark", "paper"])
def test_what_is_read_has_a_contrast_of_at_least_4_5(colours):
    for text, ground in product(("text", "muted", "accent"), PANELS):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def test_every_colour_that_is_used_is_defined_in_every_mode():
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE))
    assert used == set(LIGHT)
    assert set(LIGHT) == set(DARK) == set(ON_PAPER)
    # pictures keep their white ground in the dark; nothing else has a colour of its own
    assert re.findall(r"#[0-9a-f]{3,6}", RULES) == ["#fff"]


def test_paper_is_white_and_shows_what_is_folded_away():
    assert "prefers-color-scheme: dark" in STYLE
    assert ON_PAPER["page"] == "#ffffff"
    assert ON_PAPER["text"] == "#000000"
    assert "details::details-content" in STYLE.split("@media print")[-1]
