"""A release says one version everywhere, and the scripts that look at what is built see faults."""

import importlib.util
import re
import zipfile
from pathlib import Path

import pytest
import yaml

import policygrad

ROOT = Path(__file__).parents[1]


def script(name):
    """A script of the continuous integration, as a module."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_newest_changes_and_the_citation_are_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version, date = re.search(
        r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    ).groups()
    assert policygrad.__version__ == version == cited["version"]
    assert date == cited["date-released"]


def test_a_wheel_that_lacks_a_module_and_holds_a_test_is_faulty(tmp_path, capsys):
    contents = script("contents")
    package = contents.files(ROOT / "src" / "policygrad", ROOT / "src")
    assert {"policygrad/py.typed", "policygrad/__init__.pyi"} <= package
    about = "policygrad-1.dist-info/licenses/LICENSE"
    whole, faulty = tmp_path / "whole.whl", tmp_path / "faulty.whl"
    for path, names in (
        (whole, package | {about}),
        (faulty, package - {"policygrad/py.typed"} | {"tests/toy.py"}),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "")
    assert contents.main([whole]) == 0
    capsys.readouterr()
    assert contents.main([faulty]) == 1
    told = capsys.readouterr().out.splitlines()[1:]
    assert [line.strip() for line in told] == [
        "lacks policygrad/py.typed",
        "should not hold tests/toy.py",
        "lacks LICENSE",
    ]


GOOD = """<html lang="en"><head><title>One</title></head><body><h1 id="a">A</h1><h2>B</h2>
<img src="x.png" alt="A curve"><a href="#a">a</a><a href="sub/two.html#b">b</a>
<a href="https://example.org/">c</a></body></html>"""
TWO = '<html lang="en"><title>Two</title><h1 id="b">B</h1><a href="../one.html">one</a></html>'


@pytest.mark.parametrize(
    ("there", "instead", "fault"),
    [
        ('alt="A curve"', "", "has a picture without a text: x.png"),
        ('alt="A curve"', 'alt="x.png"', "has a picture without a text: x.png"),
        ("<h2>B</h2>", "<h3>B</h3>", "has a heading h3 below an h1"),
        ("<h2>B</h2>", "<h1>B</h1>", "has 2 headings of the first level"),
        (' lang="en"', "", "says no language"),
        ("<title>One</title>", "", "has no title"),
        ("<h2>", '<h2 id="a">', "has the id a twice"),
        ('"#a"', '"#c"', "links to #c, which that page does not have"),
        ("two.html#b", "two.html#c", "links to sub/two.html#c, which that page does not have"),
        ("two.html#b", "three.html", "links to sub/three.html, which is not there"),
        ("https://example.org/", "https://example", "has the link https://example"),
    ],
)
def test_a_fault_of_the_site_is_told(there, instead, fault, tmp_path, capsys):
    site = script("site")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/two.html").write_text(TWO)
    (tmp_path / "one.html").write_text(GOOD)
    assert site.main(str(tmp_path)) == 0
    assert capsys.readouterr().out == "2 pages, 0 faults\n"
    (tmp_path / "one.html").write_text(GOOD.replace(there, instead))
    assert site.main(str(tmp_path)) == 1
    assert f"one.html {fault}\n" in capsys.readouterr().out


def test_links_to_other_sites_are_listed(tmp_path, capsys):
    (tmp_path / "one.html").write_text(GOOD)
    assert script("site").main(str(tmp_path), "--links") == 0
    assert capsys.readouterr().out == "https://example.org/ one.html\n"
