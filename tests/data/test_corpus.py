"""Reading: formats, compressions, encodings, what is left out, and errors that say what to do."""

import bz2
import csv
import gzip
import json
import logging
import lzma
import os
import shutil
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from bertkit.data.corpus import ReadingNotes, ReadingOptions, open_corpus
from bertkit.errors import CorpusError

TEXTS = ["First document.", "Zweites Dokument äöü.", "第三个文件。"]


def read(location, notes=None, **options):
    return list(open_corpus(str(location), ReadingOptions(**options)).documents(notes))


def texts_of(documents):
    return [document.text.strip() for document in documents]


def as_txt(texts):
    return "\n\n".join(texts).encode()


def as_jsonl(texts):
    return "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts).encode()


def as_csv(texts):
    return ("n,text\n" + "".join(f'1,"{text}"\n' for text in texts)).encode()


def as_parquet(texts):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"n": [1] * len(texts), "text": texts}), sink)
    return sink.getvalue().to_pybytes()


COMPRESSIONS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(
    ("suffix", "write"), [(".txt", as_txt), (".jsonl", as_jsonl), (".csv", as_csv), (".parquet", as_parquet)]
)
def test_every_format_reads_the_same_plain_and_compressed(tmp_path, suffix, write, compression):
    file = tmp_path / f"corpus{suffix}{compression}"
    file.write_bytes(COMPRESSIONS[compression](write(TEXTS)))
    assert texts_of(read(file, document="blank-line")) == TEXTS


def test_a_folder_is_read_in_sorted_order_with_its_subfolders(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_text("In b.")
    (tmp_path / "z.txt").write_text("Last.")
    (tmp_path / "a.txt").write_text("First.")
    documents = read(tmp_path)
    assert [document.id for document in documents] == ["a.txt#1", "b/one.txt#1", "z.txt#1"]
    assert [document.id for document in read(tmp_path / "*.txt")] == ["a.txt#1", "z.txt#1"]
    assert texts_of(read(f"file://{tmp_path}/z.txt")) == ["Last."]


def test_unsupported_files_of_a_folder_are_counted_and_named_but_read_when_named_themselves(tmp_path):
    (tmp_path / "a.txt").write_text("Text.")
    (tmp_path / "notes.tokens").write_text("More text.")
    (tmp_path / ".hidden").write_text("x")
    corpus = open_corpus(str(tmp_path), ReadingOptions())
    assert corpus.unsupported.counts == {"unsupported file": 1}
    assert "notes.tokens" in corpus.unsupported.sentence("unsupported file")
    assert texts_of(read(tmp_path / "notes.tokens")) == ["More text."]


def test_links_that_lead_in_circles_are_followed_once(tmp_path):
    (tmp_path / "a.txt").write_text("Text.")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [document.id for document in read(tmp_path)] == ["a.txt#1"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfText.")
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + as_jsonl(["More."]))
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbftext\nEven more.\n")
    assert texts_of(read(tmp_path)) == ["Text.", "More.", "Even more."]
    (tmp_path / "utf16.txt").write_bytes("Text in UTF-16.".encode("utf-16"))
    assert texts_of(read(tmp_path / "utf16.txt", encoding="utf-16")) == ["Text in UTF-16."]


def test_undecodable_documents_are_dropped_one_by_one_and_read_with_the_right_encoding(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("Plain text.\n\nNaïve café.\n".encode("latin-1"))
    notes = ReadingNotes()
    assert texts_of(read(file, notes, document="blank-line")) == ["Plain text."]
    assert notes.dropped.counts == {"undecodable": 1}
    assert "a.txt#2" in notes.dropped.sentence("undecodable")
    assert "data.encoding=latin-1" in notes.dropped.sentence("undecodable")
    assert texts_of(read(file, document="blank-line", encoding="latin-1")) == ["Plain text.", "Naïve café."]


def test_rows_that_are_broken_empty_or_no_text_are_counted_with_their_line(tmp_path):
    lines = ['{"text": "Good."}', "{broken", '{"text": 3}', '{"text": null}', r'{"text": "\ud800"}', "[1]", '{"a": 1}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    notes = ReadingNotes()
    assert texts_of(read(tmp_path, notes)) == ["Good."]
    assert notes.dropped.counts == {"invalid row": 4, "empty": 1, "undecodable": 1}
    assert notes.dropped.examples["invalid row"] == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:6"]


def test_csv_fields_may_hold_line_breaks_quotes_and_long_texts(tmp_path):
    long = "Word " * 40_000
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], [1, 'Two\nlines, and "quotes".'], [2, long], [3]])
    notes = ReadingNotes()
    assert texts_of(read(tmp_path, notes)) == ['Two\nlines, and "quotes".', long.strip()]
    assert notes.dropped.counts == {"invalid row": 1}


def test_copies_empty_binary_and_overlong_documents_are_counted(tmp_path):
    texts = {"a": "Same  text.", "b": "Same\ntext.", "c": "", "d": " \n\n ", "e": "a\0b", "f": "x" * 101}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
    notes = ReadingNotes()
    assert [document.id for document in read(tmp_path, notes, max_document_chars=100)] == ["a.txt#1"]
    assert notes.dropped.as_dict() == {"binary": 1, "duplicate": 1, "empty": 2, "too long": 1}


def test_copied_lines_go_when_asked_and_short_ones_stay(tmp_path):
    boilerplate = "All rights reserved by the owner."
    (tmp_path / "a.txt").write_text(f"One.\n{boilerplate}\nShort.\n")
    (tmp_path / "b.txt").write_text(f"Two.\n{boilerplate}\nShort.\n")
    notes = ReadingNotes()
    documents = read(tmp_path, notes, drop_duplicate_lines=True)
    assert texts_of(documents) == [f"One.\n{boilerplate}\nShort.", "Two.\nShort."]
    assert notes.dropped.counts == {"duplicate line": 1}
    assert boilerplate in read(tmp_path)[1].text


def test_a_missing_column_names_the_columns_there_are(tmp_path):
    for suffix, write in {".jsonl": as_jsonl, ".csv": as_csv, ".parquet": as_parquet}.items():
        (tmp_path / f"a{suffix}").write_bytes(write(TEXTS))
        with pytest.raises(
            CorpusError, match=r"no column 'body'; it has ('text', 'n'|'n', 'text'): set data.text_column"
        ):
            read(tmp_path / f"a{suffix}", text_column="body")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt.gz", b"no gzip at all", "cannot read a.txt.gz"),
        ("a.txt.gz", gzip.compress(b"text " * 1000, mtime=0)[:-20], "cannot read a.txt.gz"),
        ("a.txt.xz", b"no xz", "a.txt.xz"),
        ("a.txt.zst", b"no zstd", "a.txt.zst"),
        ("a.parquet", b"PAR1 no parquet PAR1", "a.parquet is no whole Parquet file"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read(tmp_path)


def test_a_file_one_may_not_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("Text.")
    corpus = open_corpus(str(tmp_path), ReadingOptions())

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(corpus.files[0].filesystem), "open", refuse)
    with pytest.raises(CorpusError, match=r"cannot read a.txt: permission denied"):
        list(corpus.documents())


def test_what_is_not_there_is_said_with_what_would_do(tmp_path, monkeypatch):
    with pytest.raises(CorpusError, match="there is no file or folder"):
        open_corpus(str(tmp_path / "missing"), ReadingOptions())
    with pytest.raises(CorpusError, match="it is empty"):
        open_corpus(str(tmp_path), ReadingOptions())
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(CorpusError, match=r"a\.pdf"):
        open_corpus(str(tmp_path), ReadingOptions())
    with pytest.raises(CorpusError, match="encoding"):
        read(tmp_path / "a.pdf", encoding="utf-9")
    with pytest.raises(CorpusError, match=r"data.document 'page' is none of"):
        open_corpus(str(tmp_path / "a.pdf"), ReadingOptions(document="page"))
    with pytest.raises(CorpusError, match="not a regular expression"):
        open_corpus(str(tmp_path / "a.pdf"), ReadingOptions(document="heading:("))


def test_a_hub_data_set_without_network_names_the_local_way(monkeypatch):
    import datasets

    def offline(*args, **kwargs):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(CorpusError, match=r"name/corpus' is no file or folder here.*give a local folder"):
        read("name/corpus")


def test_hub_rows_are_documents(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: iter([{"text": text} for text in TEXTS]))
    assert texts_of(read("name/corpus:config")) == TEXTS


def test_the_fingerprint_follows_names_and_contents_only(tmp_path):
    prints = []
    for folder, name, text in [("x", "a", "T."), ("y", "a", "T."), ("z", "b", "T."), ("w", "a", "U.")]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.txt").write_text(text)
        prints.append(open_corpus(str(tmp_path / folder), ReadingOptions()).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_what_was_left_out_is_reported_as_sentences(tmp_path, caplog):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    notes = ReadingNotes()
    read(tmp_path, notes)
    with caplog.at_level(logging.INFO):
        notes.dropped.report()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith("left out: 1 documents were not valid text in the given encoding")


def test_csv_lines_that_are_blank_are_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("\n \nid,text\n\n1,Good.\n   \n\n2,Better.\n3\n\n")
    notes = ReadingNotes()
    assert texts_of(read(tmp_path, notes)) == ["Good.", "Better."]
    assert notes.dropped.counts == {"invalid row": 1}
    assert notes.dropped.examples["invalid row"] == ["a.csv:9"]


def test_documents_of_nothing_but_copied_lines_are_counted(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("All rights reserved by the owner.\n" + "\n" * (name == "b"))
    notes = ReadingNotes()
    assert len(read(tmp_path, notes, drop_duplicate_lines=True)) == 1
    assert notes.dropped.counts == {"duplicate line": 1, "duplicate lines only": 1}
    assert notes.dropped.examples["duplicate lines only"] == ["b.txt#1"]


def make_files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_runs_and_stores_inside_a_corpus_change_nothing_and_are_said(tmp_path, store, caplog):
    (tmp_path / "a.txt").write_text("Text.")
    before = open_corpus(str(tmp_path), ReadingOptions()).fingerprint()
    make_files(tmp_path / "runs" / "one", "config.yaml", "metrics.jsonl", "export/vocab.txt")
    make_files(tmp_path / "runs" / "two", "config.yaml", "environment.json", "environment.jsonl")
    shutil.copytree(store.path, tmp_path / "store")
    make_files(tmp_path / "begun", "tokenizer/vocab.txt")
    (tmp_path / "begun" / "preparing.json").write_text('{"fingerprint": "abc"}')
    with caplog.at_level(logging.INFO):
        corpus = open_corpus(str(tmp_path), ReadingOptions())
    assert (corpus.fingerprint(), corpus.unsupported.counts) == (before, {})
    assert caplog.messages == [
        "runs and token stores of bertkit inside the corpus are not read as text: begun, runs/one, runs/two, ..."
    ]


def test_folders_that_only_resemble_runs_and_stores_are_read(tmp_path, caplog):
    make_files(tmp_path, "app/manifest.json", "app/a.txt", "site/config.yaml", "site/a.txt", "log/metrics.jsonl")
    with caplog.at_level(logging.INFO):
        files = open_corpus(str(tmp_path), ReadingOptions()).files
    assert [file.name for file in files] == ["app/a.txt", "log/metrics.jsonl", "site/a.txt"]
    assert not caplog.messages


def test_a_subfolder_one_may_not_look_into_is_named(tmp_path, monkeypatch):
    make_files(tmp_path, "a.txt", "closed/b.txt")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CorpusError, match=r"cannot look into the folder .*closed \(Permission denied\): make it"):
        open_corpus(str(tmp_path), ReadingOptions())


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("foo://b/x", r"the protocol 'foo' is not known: give a local path"),
        ("http://127.0.0.1:9/a.txt", r"cannot be reached \(Cannot connect to host.*the path of a local copy"),
        ("zip://a.txt::/missing.zip", r"cannot be reached \(.*No such file"),
    ],
)
def test_a_place_that_cannot_be_reached_is_one_sentence_with_the_way_out(location, message):
    with pytest.raises(CorpusError, match=message) as caught:
        open_corpus(location, ReadingOptions())
    assert "\n" not in str(caught.value)


def test_a_file_system_whose_package_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(CorpusError, match=r"Install s3fs to access S3: pip install s3fs, or give the path of a local"):
        open_corpus("s3://bucket/x", ReadingOptions())


def test_a_remote_file_that_breaks_off_is_named(monkeypatch):
    import fsspec

    class RefusedError(Exception):
        __module__ = "botocore.exceptions"

    def refuse(*args, **kwargs):
        raise RefusedError("AccessDenied")

    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/a.txt", b"Text.")
    corpus = open_corpus("memory://corpus", ReadingOptions())
    assert texts_of(corpus.documents()) == ["Text."]
    monkeypatch.setattr(type(memory), "open", refuse)
    with pytest.raises(CorpusError, match=r"'a.txt' cannot be reached \(AccessDenied\)"):
        list(corpus.documents())


def test_a_mistake_of_our_own_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("Text.")

    def broken(*args, **kwargs):
        raise ValueError("a mistake of ours")

    monkeypatch.setattr("bertkit.data.corpus.look_at_layout", broken)
    with pytest.raises(ValueError, match="^a mistake of ours$"):
        read(tmp_path)
