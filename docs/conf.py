"""The site: `sphinx-build -W docs site`. Every page with code cells is executed at every build."""

import os
import re
import tempfile

from policygrad import __version__

# pages compile many equal programs, each in a process of its own
compiled = tempfile.TemporaryDirectory(prefix="policygrad-docs-")  # removed when the build ends
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", compiled.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "policygrad"
author = "the policygrad authors"
project_copyright = "the policygrad authors. Apache License 2.0"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
]
exclude_patterns = []

# names of other libraries become links with `sphinx-build -t online`, which reads their sites
if tags.has("online"):
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "jax": ("https://docs.jax.dev/en/latest", None),
    "equinox": ("https://docs.kidger.site/equinox", None),
    "optax": ("https://optax.readthedocs.io/en/latest", None),
    "gymnasium": ("https://gymnasium.farama.org", None),
}

html_theme = "furo"
html_title = "policygrad"
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]

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


def with_levels(app, page, template, context, doctree):
    """The captions of the navigation are headings, and a heading says its level."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )


def setup(app):
    # it only copies files when all is built, so pages may be read side by side (-j)
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True
    app.connect("autodoc-skip-member", not_told)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("html-page-context", with_levels, priority=900)  # after the theme
