"""Web archives: every page of a whole one, and one sentence for one that is not."""

import gzip
import random
from itertools import accumulate

import pytest

pytest.importorskip("datatrove")
pytest.importorskip("warcio")
pytest.importorskip("cchardet")
pytest.importorskip("magic")

from bertkit.data.corpus import ReadingOptions, open_corpus
from bertkit.errors import CorpusError

PAGE = "<html><body><p>The cat {} sees the dog near the river.</p></body></html>"
PAGES = 4
RECORD = """WARC/1.0\r
WARC-Type: response\r
WARC-Record-ID: <urn:uuid:{number}>\r
WARC-Target-URI: http://a.b/{number}\r
WARC-Date: 2024-01-01T00:00:00Z\r
WARC-Identified-Payload-Type: text/html\r
Content-Type: application/http\r
Content-Length: {size}\r
\r
{answer}\r
\r
"""


@pytest.fixture(params=["archive.warc", "archive.warc.gz"])
def name(request):
    return request.param


def archive(*, packed):
    """The bytes of an archive of four pages, and where each of its records ends."""
    records = []
    for number in range(PAGES):
        answer = f"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n{PAGE.format(number)}"
        records.append(RECORD.format(number=number, size=len(answer), answer=answer).encode())
    if packed:
        records = [gzip.compress(record, mtime=0) for record in records]
    return b"".join(records), list(accumulate(map(len, records)))


def texts(path):
    return [document.text for document in open_corpus(str(path), ReadingOptions()).documents()]


def test_every_page_of_a_whole_archive_is_read(tmp_path, name):
    content, _ = archive(packed=name.endswith(".gz"))
    (tmp_path / name).write_bytes(content)
    assert texts(tmp_path / name) == [PAGE.format(number) for number in range(PAGES)]


def test_an_archive_that_was_cut_is_refused_wherever_that_was(tmp_path, name):
    content, ends = archive(packed=name.endswith(".gz"))
    # The empty lines after a record belong to it, but nothing is lost with them.
    whole = {end - lines for end in (0, *ends) for lines in range(1 if name.endswith(".gz") else 5)}
    cuts = [cut for cut in range(1, len(content), 7) if cut not in whole]
    assert len(cuts) > 100
    for cut in cuts:
        (tmp_path / name).write_bytes(content[:cut])
        with pytest.raises(CorpusError, match=r"archive.warc.* mend "):
            texts(tmp_path / name)


def test_a_record_that_is_longer_than_it_says_or_does_not_say_is_refused(tmp_path):
    content, _ = archive(packed=False)
    for wrong in (b"Content-Length: 99999999999", b"Content-Length: -1", b"Content-Length: x", b"Content-Size: 9"):
        start = content.rindex(b"Content-Length")
        (tmp_path / "a.warc").write_bytes(content[:start] + wrong + content[content.index(b"\r\n", start) :])
        with pytest.raises(CorpusError, match=r"a.warc is no whole web archive \(.+\): mend it or move it away"):
            texts(tmp_path / "a.warc")


def test_damage_of_any_kind_is_one_sentence_or_harmless(tmp_path, name):
    content, said, choose = archive(packed=False)[0], [], random.Random(1)
    splices = (
        b"\0",
        b"\r\n\r\n",
        b"WARC/1.0\r\n",
        b"Content-Length: 9\r\n",
        b"\xff\xfe",
        b"Content-Encoding: gzip\r\n",
    )
    for _ in range(150):
        damaged = bytearray(content)
        at = choose.randrange(len(damaged))
        if choose.random() < 0.5:
            del damaged[at : at + choose.randrange(1, 200)]
        else:
            damaged[at:at] = choose.choice(splices)
        (tmp_path / name).write_bytes(gzip.compress(damaged, 1) if name.endswith(".gz") else damaged)
        try:
            assert len(texts(tmp_path / name)) <= PAGES + 1
        except CorpusError as error:
            said.append(str(error))
    assert len(said) > 20
    assert not any("\n" in sentence for sentence in said)
