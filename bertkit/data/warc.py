"""Pages of web archives (.warc, .wet) as rows, by datatrove's own rules of what in them is text."""

from collections.abc import Iterator
from typing import Any

from bertkit.data.rows import Row
from bertkit.data.sources import SourceFile
from bertkit.errors import CorpusError


def read_warc(source: SourceFile) -> Iterator[Row]:
    """A row for every page that was fetched: its HTML, or its text where the archive holds text.

    Raises CorpusError when the file is damaged, or the packages that read it are missing.
    """
    try:
        from datatrove.pipeline.readers.warc import process_record
        from warcio.archiveiterator import ArchiveIterator
        from warcio.exceptions import ArchiveLoadFailed

        # The opened text's buffer is the unpacked file, read as it streams in.
        with source.open_text("latin-1") as text:
            unpacked: Any = text
            for number, record in enumerate(ArchiveIterator(unpacked.buffer)):
                if record.rec_type in ("response", "conversion"):
                    page = process_record(record)
                    yield Row(f"{source.name}:{number + 1}", page["text"] if page else None)
    except ImportError as error:
        raise CorpusError(
            f"{source.name}: web archives need further packages ({error}): pip install 'bertkit[cluster]', and libmagic"
        ) from error
    except ArchiveLoadFailed as error:
        raise CorpusError(f"{source.name} is no whole web archive ({error}): mend it or move it away") from error
