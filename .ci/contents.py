"""Whether a wheel and a source distribution hold what they have to, and nothing else.

python .ci/contents.py dist/*.whl dist/*.tar.gz
"""

import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (".ci", "benchmarks", "docs", "examples", "src", "tests")
FILES = ("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md")
BUILT = ("PKG-INFO", "setup.cfg", "src/policygrad.egg-info/")  # what building adds to the sources
MOST = 1_000_000  # bytes of a wheel


def files(folder: Path, root: Path) -> set[str]:
    """The files below a folder, as paths from `root`, without what Python compiled."""
    found = {str(p.relative_to(root)) for p in folder.rglob("*") if p.is_file()}
    return {n for n in found if "__pycache__" not in n and ".egg-info/" not in n}


def of_wheel(path: Path) -> tuple[set[str], list[str]]:
    """The files of a wheel, and its faults."""
    package = files(ROOT / "src" / "policygrad", ROOT / "src")
    names = {n for n in zipfile.ZipFile(path).namelist() if not n.endswith("/")}
    about = {n for n in names if n.split("/")[0].endswith(".dist-info")}
    faults = differences(names - about, package)
    if not any(n.endswith("licenses/LICENSE") for n in about):
        faults.append("lacks LICENSE")
    if path.stat().st_size > MOST:
        faults.append(f"is larger than {MOST:,} bytes")
    return names, faults


def of_sources(path: Path) -> tuple[set[str], list[str]]:
    """The files of a source distribution, and its faults."""
    needed = {*FILES, "pyproject.toml"}.union(*(files(ROOT / f, ROOT) for f in FOLDERS))
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    return names, differences({n for n in names if not n.startswith(BUILT)}, needed)


def differences(names: set[str], needed: set[str]) -> list[str]:
    """One line for each file that is missing, and for each that should not be there."""
    lacks = [f"lacks {n}" for n in sorted(needed - names)]
    return lacks + [f"should not hold {n}" for n in sorted(names - needed)]


def main(paths: Iterable[str]) -> int:
    """Print what each file is and its faults; 1 if there are any."""
    wrong = False
    for path in map(Path, paths):
        names, faults = of_wheel(path) if path.suffix == ".whl" else of_sources(path)
        print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1000:,.0f} kB")
        print("".join(f"  {fault}\n" for fault in faults), end="")
        wrong = wrong or bool(faults)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
