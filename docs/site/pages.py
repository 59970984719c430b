"""Adds the repository's own pages to the site, and checks the links that lead out of docs/."""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
#: Pages of the site that are files of the repository's top level.
TOP_LEVEL = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the top level."""
    for page, source in TOP_LEVEL.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Resolve links as the repository does; one that leads to a file outside the site becomes that file's path."""
    uri = page.file.src_uri
    source = PurePosixPath(TOP_LEVEL.get(uri, f"docs/{uri}"))
    pages = {file: name for name, file in TOP_LEVEL.items()}

    def resolved(link: re.Match[str]) -> str:
        image, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        path = normpath(source.parent / target)
        if not (ROOT / path).exists():
            raise PluginError(f"{source}: the link to {target} leads nowhere")
        inside = pages.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if inside is None or (ROOT / path).is_dir():
            return f"{text} (`{path}`)" if path not in text else f"`{path}`"
        return f"{image}[{text}]({relpath(inside, str(PurePosixPath(uri).parent))}{anchor})"

    return LINK.sub(resolved, markdown)
