"""Settings of the documentation site; ``make docs`` builds it. Why it is so: decisions/0030-documentation-site.md."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import everest
from building import filling, reference, repository, sources

project = "EVEREST"
author = "The EVEREST developers"
copyright = "The EVEREST developers, Apache-2.0"
version = release = everest.__version__

# The repository is the source, so that links between documents are the same on a code host and here.
root_doc = "docs/index"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/api/*.md",
    "docs/decisions/*.md",
    "examples/README.md",
    "experiments/README.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "shared", "src", "tests", "**/__pycache__"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]

myst_heading_anchors = 4  # headings are linked to as a code host does
myst_links_external_new_tab = False

# Every reference must lead somewhere. What other libraries define has its page in their documentation, which is on
# the network, where the build asks nothing.
smartquotes = False  # -- is the beginning of an option
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|numpy|np|pydantic|PIL|matplotlib|accelerate|av)\..*"),  # libraries
    (r"py:.*", r"(argparse|collections|contextlib|datetime|fractions|os|pathlib|time|types|typing)\..*"),  # Python's
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]  # a list; as entries they would be there twice
linkcode_resolve = sources.source_link

html_theme = "furo"
html_title = f"EVEREST {release}"
html_static_path = ["building/static"]
html_extra_path = ["building/root"]  # index.html, which leads to docs/index.html
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = False
html_last_updated_fmt = None  # the same pages give the same site
highlight_language = "none"  # of blocks that name none: what programs print
pygments_style, pygments_dark_style = "default", "github-dark"


def setup(app: Any) -> dict[str, bool]:
    """Add what Sphinx lacks."""
    app.connect("source-read", filling.fill_places)
    app.connect("autodoc-process-docstring", reference.complete_references)
    app.connect("autodoc-process-signature", reference.shorten_defaults)
    app.connect("autodoc-skip-member", reference.skip_unsaid)
    app.connect("missing-reference", reference.resolve)
    app.connect("html-collect-pages", repository.repository_pages)
    app.add_transform(repository.LinkToRepository)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
