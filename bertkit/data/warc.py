"""Pages of web archives (.warc, .wet) as rows, by datatrove's own rules of what in them is text."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from bertkit.data.rows import Row
from bertkit.data.sources import SourceFile
from bertkit.errors import CorpusError

BLOCK_BYTES: Final = 1 << 16


def read_warc(source: SourceFile) -> Iterator[Row]:
    """A row for every page that was fetched: its HTML, or its text where the archive holds text.

    Raises CorpusError when the file is damaged or ends early, or the packages that read it are missing.
    """
    try:
        from datatrove.pipeline.readers.warc import process_record
        from warcio.archiveiterator import ArchiveIterator

        # The opened text's buffer is the unpacked file, read as it streams in.
        with source.open_text("latin-1") as text:
            unpacked: Any = text
            yield from _rows(_Unpacked(unpacked.buffer), source.name, ArchiveIterator, process_record)
    except ImportError as error:
        raise CorpusError(
            f"{source.name}: web archives need further packages ({error}): pip install 'datatrove[io]', and libmagic"
        ) from error


class _Unpacked:
    """A file that remembers why it could not be read: warcio takes an EOFError for the end of the archive."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._bytes_read = 0
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            content: bytes = self._file.read(size)
        except Exception as error:
            self.failure = error
            raise
        self._bytes_read += len(content)
        return content

    def tell(self) -> int:
        return self._bytes_read


def _rows(file: _Unpacked, name: str, iterate: Callable[[Any], Any], read_page: Callable[[Any], Any]) -> Iterator[Row]:
    try:
        archive = iterate(file)
        for number, record in enumerate(archive):
            page = read_page(record)
            _refuse_cut(record)
            if record.rec_type in ("response", "conversion"):
                yield Row(f"{name}:{number + 1}", page["text"] if page else None)
        if file.failure is None and archive.offset != file.tell():
            raise ValueError("it ends within the head of a record")
    except ImportError:
        raise
    except Exception as error:
        # What the file itself could not give is named where it is opened; of the rest, damage raises every class.
        if error is file.failure:
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorpusError(f"{name} is no whole web archive ({reason}): mend it or move it away") from error
    if file.failure is not None:
        raise file.failure


def _refuse_cut(record: Any) -> None:
    """Raise ValueError when the archive ends before the record does, which warcio passes over."""
    told = record.rec_headers.get_header("Content-Length", record.length)
    if not str(told).strip().isdigit():
        raise ValueError("a record does not tell its Content-Length")
    while record.raw_stream.read(BLOCK_BYTES):
        pass
    if record.raw_stream.limit:
        raise ValueError("a record ends before its Content-Length")
