"""What MkDocs is told beyond `mkdocs.yml`: files outside of docs/ are pages where documents link to
them, and the reference has every name of the package's door.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

from mopl_jax import DOORS
from mopl_jax.doors import is_module

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md"}  # by another name; all others by their own
OUTSIDE = (
    "README.md",
    "C[HO]*.md",
    "SECURITY.md",
    "benchmarks/*.md",
    "benchmarks/results/*.md",
    "examples/*.py",
    "figures/*.png",
    "mopl_jax/coverage/studies/default.toml",
)
LINK = re.compile(r"(\]\()(?:\.\./|docs/)?([^)]*\))")


def on_files(files, config):
    """The files outside of docs/ join it."""
    for path in (path for pattern in OUTSIDE for path in sorted(ROOT.glob(pattern))):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, PAGES.get(name, name), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as seen from docs/, where every file now lies below; the names in the reference."""
    if "/" not in page.file.src_uri:
        markdown = LINK.sub(r"\1\2", markdown).replace("](README.md", "](index.md")
        markdown = markdown.replace("](examples)", "](examples/log_to_weights.py)")
    return markdown.replace("<!-- every name -->", "\n\n".join(_names()))


def _names():
    for name, module in DOORS.items():
        yield f"::: {module}" if is_module(name, module) else f"::: {module}.{name}"
