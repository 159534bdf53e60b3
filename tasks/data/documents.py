"""Documents as passages: Markdown, text, HTML and PDF, cut at paragraphs so that a teacher can be asked about each."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from configs.canonical import digest_bytes
from configs.errors import Problem, SlipwayError

SUFFIXES = (".md", ".markdown", ".txt", ".html", ".htm", ".pdf")
SILENT = frozenset(("script", "style", "head", "nav", "template", "noscript"))
BLOCKS = frozenset(("p", "div", "li", "tr", "br", "section", "article", "pre", "h1", "h2", "h3", "h4", "h5", "h6"))
_GAP = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Passage:
    """A part of a document. `number` counts from 1; `digest` is the whole document's."""

    document: str
    digest: str
    number: int
    text: str


def read_passages(path: Path, at_most_words: int) -> list[Passage]:
    """The passages of a document, or of all documents below a folder.

    Raises SlipwayError, with every document that cannot be read or holds no text.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise SlipwayError(
            f"there is no document in {path}",
            where="--documents",
            cure=f"give files that end with {', '.join(SUFFIXES)}",
        )
    found: list[Passage] = []
    problems: list[Problem] = []
    for file in files:
        name = file.name if path.is_file() else str(file.relative_to(path))
        try:
            content = file.read_bytes()
            texts = list(passages_of(_text(file, content), at_most_words))
        except (OSError, ValueError) as error:
            problems.append(Problem(name, str(error)))
            continue
        if not texts:
            what = "it holds no text"
            problems.append(Problem(name, what + ("; scanned pages need OCR first" if file.suffix == ".pdf" else "")))
        digest = digest_bytes(content)
        found += [Passage(name, digest, number, text) for number, text in enumerate(texts, 1)]
    if problems:
        raise SlipwayError(
            f"{len(problems)} of {len(files)} documents cannot be used; nothing was asked",
            problems=problems,
            cure="mend them, or take them out of the folder",
        )
    return found


def passages_of(text: str, at_most_words: int) -> Iterator[str]:
    """Paragraphs put together as far as they fit; one that is too long is cut at its sentences, or else at words."""
    held: list[str] = []
    words = 0
    for part in _parts(text, at_most_words):
        size = len(part.split())
        if held and words + size > at_most_words:
            yield "\n\n".join(held)
            held, words = [], 0
        held.append(part)
        words += size
    if held:
        yield "\n\n".join(held)


def _parts(text: str, at_most_words: int) -> Iterator[str]:
    for paragraph in filter(None, (one.strip() for one in _GAP.split(text))):
        if len(paragraph.split()) <= at_most_words:
            yield paragraph
            continue
        for sentence in _SENTENCE_END.split(paragraph):
            words = sentence.split()
            for start in range(0, len(words), at_most_words):
                yield " ".join(words[start : start + at_most_words])


def _text(file: Path, content: bytes) -> str:
    """Raises ValueError with the reason."""
    suffix = file.suffix.lower()
    if suffix == ".pdf":
        return _of_pdf(content)
    if suffix not in SUFFIXES:
        raise ValueError(f"a document ends with one of {', '.join(SUFFIXES)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8: {error}") from error
    return _of_html(text) if suffix in (".html", ".htm") else text


def _of_pdf(content: bytes) -> str:
    from io import BytesIO

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted:
            raise ValueError("it is encrypted: save it without a password")
        return "\n\n".join(page.extract_text() for page in reader.pages)
    except PyPdfError as error:
        raise ValueError(f"it cannot be read as PDF: {error}") from error


def _of_html(text: str) -> str:
    reader = _Html()
    reader.feed(text)
    reader.close()
    return "".join(reader.said)


class _Html(HTMLParser):
    """Gathers what a reader sees of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.said: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """A silent element hides all that is in it."""
        if tag in SILENT:
            self._silent.append(tag)
        elif tag in BLOCKS:
            self.said.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        """Ends a block, or what is hidden."""
        if self._silent and tag == self._silent[-1]:
            self._silent.pop()
        elif tag in BLOCKS:
            self.said.append("\n\n")

    def handle_data(self, data: str) -> None:
        """Text between tags; spaces and lines mean one space."""
        if not self._silent:
            self.said.append(re.sub(r"\s+", " ", data))
