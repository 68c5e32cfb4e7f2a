"""docs/answers.md is what its script computes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_page_is_reproduced_by_one_command(tmp_path):
    command = [sys.executable, "examples/answers.py", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    written = (ROOT / "docs/answers.md").read_text()
    again = (tmp_path / "answers.md").read_text()
    assert NUMBER.sub("#", again) == NUMBER.sub("#", written)
    numbers = [[float(x) for x in NUMBER.findall(page)] for page in (written, again)]
    # printed to four digits, of which another machine may round the last differently
    assert numbers[1] == pytest.approx(numbers[0], rel=2e-3, abs=1e-9)
    pictures = re.findall(r"\((figures/\w+\.png)\)", written)
    drawn = [picture for picture in pictures if (tmp_path / picture).exists()]
    assert len(drawn) == 11  # the rest was drawn from what training measured
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size > 1000
