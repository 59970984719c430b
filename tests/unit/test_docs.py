"""The documentation: its links, its words, the length of its sentences, and the site that is built from it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MAX_WORDS = 30
FENCED = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)
#: One spelling of catalog, and no words that a reader has to look up.
DIALECT = re.compile(r"catalogue\w*|\b(?:amiss|anew|likeness|mend(?:s|ed|ing)?|nought|whoever)\b", re.IGNORECASE)
#: A file or folder of the repository, named in backticks.
PATH = re.compile(r"`((?:udfs|flink_jobs|export|bench|deploy|tests|docs|requirements)/[\w./-]*)")
LINK = re.compile(r"\[([^\]]*)\]\(([^)]*)\)")

page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def sentences(markdown: str) -> list[str]:
    """The sentences of a page, without code blocks, tables, headings, pictures, comments and the targets of links."""
    text = re.sub(r"<!--.*?-->", "", FENCED.sub("\n\n", markdown), flags=re.DOTALL)
    text = LINK.sub(r"\1", re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text))
    text = re.sub(r"(?m)^ *\|.*$|^#.*$|^(?: {4}|\t)(?! *(?:[-*]|\d+\.) ).*$", "\n", text)
    paragraphs = re.split(r"\n\s*\n|\n *(?:[-*]|\d+\.) ", re.sub(r"`[^`]*`", "code", text))
    split = [re.split(r"(?<=[.!?])[)*\"]*\s+|:\s*$", " ".join(paragraph.split())) for paragraph in paragraphs]
    return [sentence for paragraph in split for sentence in paragraph]


@page
def test_sentences_are_short(page: Path):
    counted = [(len(re.findall(r"\S*\w\S*", sentence)), sentence) for sentence in sentences(page.read_text())]
    assert not [f"{words} words: {sentence}" for words, sentence in counted if words > MAX_WORDS]


@page
def test_links_lead_somewhere(page: Path):
    for _, target in LINK.findall(FENCED.sub("", page.read_text())):
        file = target.partition("#")[0]
        if file and not re.match(r"\w+:", file):
            assert (page.parent / file).exists(), target


@page
def test_named_files_exist(page: Path):
    for path in PATH.findall(FENCED.sub("", page.read_text())):
        assert (ROOT / path).exists(), path


@page
def test_words_are_plain(page: Path):
    assert not DIALECT.findall(page.read_text())


def test_site_is_built_without_warnings(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        [*command, "--config-file", str(ROOT / "docs" / "site" / "mkdocs.yml")],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    for page, name in (("features", "feature"), ("ranking", "Ranker"), ("lake", "read")):
        assert f'id="udfs.{page}.{name}"' in (tmp_path / "api" / f"{page}.html").read_text()
