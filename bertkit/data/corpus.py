"""A corpus of text, whatever it lies in, as a stream of documents in a fixed order."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Literal

import xxhash

from bertkit.data import dropped as reasons
from bertkit.data.documents import SAMPLE_CHARS, DocumentRule, document_rule, look_at_documents, split_documents
from bertkit.data.dropped import Dropped
from bertkit.data.rows import Row, bounded_lines, hub_rows_of, read_rows
from bertkit.data.seen import SeenHashes, hash_text
from bertkit.data.sentences import Layout, check_language, is_wrapped, look_at_layout, split_sentences
from bertkit.data.sources import SourceFile, find_files, is_hub_id
from bertkit.data.warc import read_warc
from bertkit.errors import HIDDEN, CorpusError

LEAST_LINE_CHARS: Final = 20


@dataclass(frozen=True)
class Document:
    """A document as the model sees it: sentences without line breaks."""

    id: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class RawDocument:
    """A document as it was read: `digest` is its 64-bit content hash, `layout` how its lines become sentences."""

    id: str
    text: str
    layout: Layout
    digest: int

    def split(self, language: str) -> Document:
        """Cut the text into sentences."""
        return Document(self.id, split_sentences(self.text, layout=self.layout, language=language))


@dataclass(frozen=True)
class ReadingOptions:
    """How a corpus is read; the fields are those of the `data` section of a recipe."""

    text_column: str = "text"
    document: str = "auto"
    sentences: Literal["auto", "line", "prose"] = "auto"
    language: str = "en"
    encoding: str = "utf-8"
    drop_duplicate_lines: bool = False
    max_document_chars: int = 20_000_000


@dataclass
class ReadingNotes:
    """What reading found out: what was dropped, and what was decided about how many files."""

    dropped: Dropped = field(default_factory=Dropped)
    decisions: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Corpus:
    """Files in sorted order, or a Hub data set, and how to read them."""

    location: str
    files: tuple[SourceFile, ...]
    options: ReadingOptions
    unsupported: Dropped = field(default_factory=Dropped, compare=False)

    def fingerprint(self) -> str:
        """Hash of names and contents of all files; a Hub data set goes by its name."""
        return fingerprint_of(self, [file.content_hash() for file in self.files])

    def documents(self, notes: ReadingNotes | None = None) -> Iterator[RawDocument]:
        """Read documents one by one, always in the same order; what is left out is counted in `notes`.

        Raises CorpusError when a file cannot be read or lacks the text column.
        """
        notes = notes or ReadingNotes()
        seen_documents, seen_lines = SeenHashes(), SeenHashes()
        for piece in self._pieces(notes):
            text = self._usable_text(piece, notes.dropped)
            if text is not None and self.options.drop_duplicate_lines:
                text = _without_seen_lines(text, seen_lines, notes.dropped, place=piece.place)
            if text is None:
                continue
            digest = hash_text(text)
            if seen_documents.add(digest):
                yield RawDocument(piece.place, text, piece.layout, digest)
            else:
                notes.dropped.add(reasons.DUPLICATE, piece.place)

    def _pieces(self, notes: ReadingNotes) -> Iterator["_Piece"]:
        options = self.options
        for file in self.files:
            if file.format == "txt":
                yield from _text_pieces(file, options, notes)
            elif file.format == "warc":
                yield from _row_pieces(read_warc(file), options)
            else:
                rows = read_rows(
                    file, column=options.text_column, encoding=options.encoding, max_chars=options.max_document_chars
                )
                yield from _row_pieces(rows, options)
        if not self.files:
            yield from _row_pieces(hub_rows_of(self.location, column=options.text_column), options)

    def _usable_text(self, piece: "_Piece", dropped: Dropped) -> str | None:
        if reason := _flaw(piece.text, max_chars=self.options.max_document_chars):
            dropped.add(reason, piece.place)
            return None
        return piece.text


def fingerprint_of(corpus: Corpus, content_hashes: Sequence[str]) -> str:
    """The fingerprint of a corpus whose files hold what hashes to these."""
    contents = [(file.name, content) for file, content in zip(corpus.files, content_hashes, strict=True)]
    return xxhash.xxh3_128_hexdigest(json.dumps(contents or [("hub", corpus.location)]).encode())


def open_corpus(location: str, options: ReadingOptions) -> Corpus:
    """Find a corpus: a file, a folder (with its subfolders), a glob, an fsspec URL, or a Hub data set.

    Raises CorpusError when there is nothing, or nothing that can be read.
    """
    if HIDDEN in location:
        raise CorpusError(
            f"{location!r} was kept without its password or signature: give the whole address as the corpus again"
        )
    document_rule(options.document)
    check_language(options.language)
    unsupported = Dropped()
    files = find_files(location, unsupported)
    if files is None and not is_hub_id(location):
        raise CorpusError(f"there is no file or folder {location!r}: check the path given as the corpus")
    if files == ():
        found = unsupported.sentence(reasons.UNSUPPORTED) if unsupported.counts else "it is empty"
        raise CorpusError(f"there is no text in {location!r}: put .txt, .jsonl, .csv or .parquet files there ({found})")
    return Corpus(location, files or (), options, unsupported)


@dataclass(frozen=True)
class _Piece:
    """A document before it was looked at closely."""

    place: str
    text: str | None
    layout: Layout


def _text_pieces(file: SourceFile, options: ReadingOptions, notes: ReadingNotes) -> Iterator[_Piece]:
    with file.open_text(options.encoding) as opened:
        lines = bounded_lines(opened, max_chars=options.max_document_chars + 1)
        sample = _take_sample(lines)
        rule = document_rule(options.document) or look_at_documents(sample)
        layout = _layout_of_file(sample, options)
        _note_decisions(rule, layout, options, notes)
        texts = split_documents(chain(sample, lines), rule, max_chars=options.max_document_chars)
        for number, text in enumerate(texts):
            yield _Piece(f"{file.name}#{number + 1}", text, layout)


def _row_pieces(rows: Iterable[Row], options: ReadingOptions) -> Iterator[_Piece]:
    for row in rows:
        yield _Piece(row.place, row.text, layout_of_row(row.text, sentences=options.sentences))


def _take_sample(lines: Iterator[str]) -> list[str]:
    sample, chars = [], 0
    for line in lines:
        sample.append(line)
        chars += len(line)
        if chars >= SAMPLE_CHARS:
            break
    return sample


def _layout_of_file(sample: list[str], options: ReadingOptions) -> Layout:
    if options.sentences == "line":
        return "line"
    looked = look_at_layout(sample, language=options.language)
    return "paragraph" if looked == "line" and options.sentences == "prose" else looked


def layout_of_row(text: str | None, *, sentences: str) -> Layout:
    """How the lines of a row's text become sentences, where data.sentences is `sentences`."""
    if sentences == "line":
        return "line"
    wrapped = text is not None and "\n" in text and is_wrapped([line.strip() for line in text.splitlines()])
    return "wrapped" if wrapped else "paragraph"


def _note_decisions(rule: DocumentRule, layout: Layout, options: ReadingOptions, notes: ReadingNotes) -> None:
    if options.document == "auto":
        notes.decisions[f"a document is {rule.said}; set data.document to change it"] += 1
    if options.sentences == "auto":
        notes.decisions[f"{LAYOUTS_SAID[layout]}; set data.sentences to change it"] += 1


LAYOUTS_SAID: Final = {
    "line": "a line is a sentence, taken as given",
    "paragraph": "a line is a paragraph, its sentences are found by sentencex",
    "wrapped": "lines are wrapped prose, joined to paragraphs whose sentences are found by sentencex",
}


def _flaw(text: str | None, *, max_chars: int) -> str | None:
    """The reason to leave a document out, if there is one."""
    if text is None:
        return reasons.INVALID_ROW
    if len(text) > max_chars:
        return reasons.TOO_LONG
    if "\0" in text:
        return reasons.BINARY
    if not text or text.isspace():
        return reasons.EMPTY
    try:
        text.encode()
    except UnicodeEncodeError:
        # Bytes that did not decode were read as lone surrogates, which also come from broken \u escapes in JSON.
        return reasons.UNDECODABLE
    return None


def line_hashes(text: str) -> Iterator[int]:
    """Hashes of the lines long enough for a repetition to mean something."""
    for line in text.splitlines():
        if len(line) >= LEAST_LINE_CHARS:
            yield xxhash.xxh3_64_intdigest(line.strip().encode("utf-8", "surrogatepass"))


def _without_seen_lines(text: str, seen: SeenHashes, dropped: Dropped, *, place: str) -> str | None:
    kept, lost = [], 0
    for line in text.splitlines(keepends=True):
        if len(line.strip()) >= LEAST_LINE_CHARS and not seen.add(
            xxhash.xxh3_64_intdigest(line.strip().encode("utf-8", "surrogatepass"))
        ):
            lost += 1
        else:
            kept.append(line)
    if lost:
        dropped.add(reasons.DUPLICATE_LINE, count=lost)
    rest = "".join(kept)
    if not rest.strip():
        dropped.add(reasons.ALL_DUPLICATE_LINES, place)
        return None
    return rest
