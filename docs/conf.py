"""The site: `make docs`. Sphinx reads the pages of this folder, and the reference from the docstrings of the code.

What leads nowhere is an error. The site asks no other host for anything, so it can be read from a disk.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.nodes import nested_parse_with_titles

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from reference_tables import TABLES

import jobkit

project = "jobkit"
release = version = jobkit.__version__
copyright = "the authors of jobkit"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
shutil.copytree(Path(__file__).parent.parent / "notebooks", Path(__file__).parent / "notebooks", dirs_exist_ok=True)
nb_execution_mode = "off"  # the notebooks have their outputs, which tests compare with a real run
exclude_patterns = ["_build", "images"]
suppress_warnings = ["ref.python"]  # the parameter `snapshot` of a component is also an attribute of several classes

default_role = "code"  # docstrings write names in single backticks
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = "jobkit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d4ed8", "color-brand-content": "#1d4ed8"},
    "dark_css_variables": {"color-brand-primary": "#93c5fd", "color-brand-content": "#93c5fd"},
    "footer_icons": [],
}

#: Pages of the repository's root that the site has, too.
ROOT_PAGES = {"SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}


def _lead_to_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links to pages of the repository's root lead to their places in the site."""
    depth = docname.count("/")
    up = "../" * (depth + 1)
    for name, page in ROOT_PAGES.items():
        source[0] = source[0].replace(f"]({up}{name}", f"]({'../' * depth}{page}")


class Table(Directive):
    """A table of the reference that is made from the code: one of `TABLES`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        node = nodes.section()
        node.document = self.state.document
        nested_parse_with_titles(self.state, StringList(TABLES[self.arguments[0]](), "reference_tables.py"), node)
        return list(node.children)


def _as_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written to be read by `help()`: an indented example needs a sign before it."""
    text = "\n".join(lines)
    text = re.sub(r"(?ms)^```\w*\n(.*?)^```$", lambda block: "::\n\n" + re.sub(r"(?m)^(?=.)", "    ", block[1]), text)
    lines[:] = re.sub(r"(?m)^(\S.*[^:])\n\n(    \S)", r"\1\n\n::\n\n\2", text).split("\n")


def setup(app: Sphinx) -> None:
    app.connect("source-read", _lead_to_pages)
    app.connect("autodoc-process-docstring", _as_rst, priority=100)
    app.add_directive("jobkit-table", Table)
