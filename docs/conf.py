"""The site: `sphinx-build -W docs site`. Every page with code cells is executed at every build."""

import os
import re
import tempfile
from importlib.metadata import version as installed_version

# pages compile many equal programs, each in a process of its own
compiled = tempfile.TemporaryDirectory(prefix="policygrad-docs-")  # removed when the build ends
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "policygrad"
author = "the policygrad authors"
project_copyright = "the policygrad authors. Apache License 2.0"
release = version = installed_version("policygrad")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
exclude_patterns = []

html_theme = "furo"
html_title = "policygrad"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False


def as_restructured_text(app, what, name, obj, options, lines):
    """Docstrings are plain text: `code`, tables by indentation, and no other marks."""
    if what == "property":  # of which a colon in the first line would mark a type
        lines[0] = lines[0].replace(":", " –")
    found = []
    for line in lines:
        indented = line.startswith("    ") and what == "module"
        if indented and (not found or not found[-1].strip()):
            found += [".. code-block:: text", ""]
        found.append(line if indented else _escaped(line))
    lines[:] = found


def _escaped(line):
    if line.lstrip().startswith(">>>"):
        return line
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(
        f"`{part}`" if i % 2 else re.sub(r"([*|]|_(?!\w))", r"\\\1", part)
        for i, part in enumerate(parts)
    )


def not_told(app, what, name, obj, skip, options):
    """Fields of named tuples, which the docstring of the class describes."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def setup(app):
    app.connect("autodoc-skip-member", not_told)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
