"""How Sphinx makes the site: `make docs`. The pages are the repository's own Markdown files, where they lie."""

import html
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

import headrace  # noqa: E402 - from this checkout, whatever else is installed

project = "headrace"
version = release = headrace.__version__
author = "the authors of headrace"
project_copyright = author
language = "en"

# The source is the repository: a link from one of its files to another means the same here and there.
root_doc = "docs/index"
include_patterns = ["docs/**.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "out", "build", "dist", "src", "tests", "tools", "benchmarks", "examples", "**/__pycache__"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]

default_role = "code"  # docstrings write `code` as Markdown does
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!headrace).*")
]  # other people's pages are not reached from a build without network
myst_heading_anchors = 6  # made as GitHub makes them
myst_links_external_new_tab = False

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "headrace"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "native"

_LINK = re.compile(r"^(?:- |\d+\. )\[([^\]]*)\]\(([^)#:\s]+)\.md\)", re.MULTILINE)


_ALL_OF_THE_FOLDER = "\n```{toctree}\n:glob:\n\n*\n```\n"


def _order_from_links(_app: Sphinx, docname: str, source: list[str]) -> None:
    """A page named index orders the pages that its lists link to, or has all of its folder; so it reads well anywhere."""
    if docname.rpartition("/")[2] != "index":
        return
    pages = "\n".join(f"{title} <{page}>" for title, page in _LINK.findall(source[0]))
    source[0] += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n" if pages else _ALL_OF_THE_FOLDER


_PYTHON = (ROOT / "docs" / "reference" / "python.md").read_text("utf-8")
_SIGNATURES = """
```{{eval-rst}}
.. {directive}:: headrace.{name}
```
"""


def _signatures(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Each public name with its signature, its types, its fields and methods, in the order of `__all__`."""
    if docname != "docs/reference/signatures":
        return
    for name in headrace.__all__:
        directive = "autoclass" if isinstance(getattr(headrace, name), type) else "autofunction"
        source[0] += f"\n## {name}\n\n[What it is for](python.md#{name.lower()}).\n" + _SIGNATURES.format(
            directive=directive, name=name
        )


def _signature(
    _app: Sphinx, _what: str, name: str, _thing: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Nobody makes a Run; a default that is made anew each time is an empty mapping wherever we have one."""
    if name == "headrace.Run":
        return "", None
    return signature and signature.replace("<factory>", "{}"), returns


def _without_its_meaning(
    _app: Sphinx, _what: str, name: str, _thing: object, _options: object, lines: list[str]
) -> None:
    """What a public name is for stands in python.md, and on the site not twice."""
    if name.partition(".")[2] in headrace.__all__:
        lines.clear()


def _unless_it_is_public(
    _app: Sphinx,
    _what: str,
    name: str,
    _thing: object,
    skipped: bool,  # noqa: FBT001 - as Sphinx calls it
    _options: object,
) -> bool | None:
    """Of a public name's members, those that python.md names."""
    return skipped or re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", _PYTHON) is None or None


def _public_name(
    _app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Annotations name a class by the module it lies in, the reference by its public name."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py":
        return None
    name = target.rpartition(".")[2]
    if name in headrace.__all__:
        domain = env.domains.python_domain
        return domain.resolve_xref(env, env.docname if not node.get("refdoc") else node["refdoc"], _app.builder, "obj",
                                   f"headrace.{name}", node, content)  # fmt: skip
    return content if target.startswith("headrace.") else None


def _front_door(app: Sphinx, error: Exception | None) -> None:
    """The folder of the site opens at the start page."""
    if error is None and app.builder.name == "html":
        to = html.escape(app.builder.get_target_uri(root_doc))
        page = f'<!doctype html><meta charset="utf-8"><title>headrace</title><meta http-equiv="refresh" content="0; url={to}">'
        Path(app.outdir, "index.html").write_text(f'{page}<a href="{to}">headrace</a>\n', "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _order_from_links)
    app.connect("source-read", _signatures)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _without_its_meaning)
    app.connect("autodoc-skip-member", _unless_it_is_public)
    app.connect("missing-reference", _public_name)
    app.connect("build-finished", _front_door)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
