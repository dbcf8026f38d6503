"""MkDocs hooks: the pages outside docs/ that belong to the site, and links to files that are not part of it.

README.md becomes the site's index.md; CONTRIBUTING.md, CHANGELOG.md and SECURITY.md become pages. A link to a file of
the repository that is not a page, such as ../playbooks, becomes its text: the site has no copy of that file.
tests/unit/test_docs.py checks that the file exists.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Path in the repository -> path in the site, where it is not "docs/X" -> "X".
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "vulnerabilities.md",
}
_LOADS = re.compile(r"""<(script|link|img|iframe|source)\b[^>]*?\s(?:src|href)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)""")
_STYLE = re.compile(r"""(?:@import|url\()\s*["'(]*((?:https?:)?//[^"')\s]+)""")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links as the site needs them."""
    source = next((source for source, name in PAGES.items() if name == page.file.src_uri), f"docs/{page.file.src_uri}")
    return relink(markdown, source, {file.src_uri for file in files})


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """The page, which names no file of another host to load. (The theme itself loads Mermaid: see mkdocs.yml.)"""
    found = foreign(output)
    if found:
        raise PluginError(f"{page.file.src_uri} loads from another host: {', '.join(found)}")
    return output


def foreign(html: str) -> list[str]:
    """Scripts, styles, fonts, pictures and frames that a page loads from another host."""
    loads = [match[2] for match in _LOADS.finditer(html) if "canonical" not in match[0]]
    return [*loads, *(match[1] for match in _STYLE.finditer(html))]


def relink(markdown: str, source: str, site: set[str]) -> str:
    """Links of the file `source` (a path in the repository), for a site of the files `site`.

    Links to a file of the site lead there; links to another file of the repository become their text.
    """

    def target(match: re.Match[str]) -> str:
        image, text, path, anchor = match.groups(default="")
        inside = normpath((PurePosixPath(source).parent / path).as_posix())
        name = PAGES.get(inside, inside.removeprefix("docs/"))
        if name in site:
            return f"{image}[{text}]({name}{anchor})"
        return text if (ROOT / inside).exists() else match[0]

    return _LINK.sub(target, markdown)
