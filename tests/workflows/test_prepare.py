"""Prepare: the same input gives the same bytes, whoever made them and however often they were interrupted."""

import errno
import logging
import shutil
from pathlib import Path

import pytest

from bertkit.config.data import DataConfig, TokenizerConfig
from bertkit.data.store import TokenStore
from bertkit.errors import CorpusError
from bertkit.lock import FolderLock
from bertkit.workflows import prepare as prepare_module
from bertkit.workflows.prepare import prepare


def settings(**values):
    return DataConfig(**{"num_workers": 1, "heldout_share": 0.1, "tokenizer": TokenizerConfig(vocab_size=120)} | values)


def content(folder: Path):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(prepare_module, "SHARD_CHARS", 2000)
    monkeypatch.setattr(prepare_module, "LEAST_SHARDS_FOR_PROCESSES", 1)


def test_one_and_two_processes_write_the_same_bytes(corpus_dir, tmp_path, small_shards):
    prepare(str(corpus_dir), tmp_path / "one", settings(num_workers=1))
    prepare(str(corpus_dir), tmp_path / "two", settings(num_workers=2))
    one = content(tmp_path / "one")
    assert len([name for name in one if "train-" in name]) > 3
    assert one == content(tmp_path / "two")


def test_the_summary_and_the_progress_say_what_was_done(corpus_dir, tmp_path, caplog):
    heard = []
    with caplog.at_level(logging.INFO):
        summary = prepare(
            str(corpus_dir), tmp_path / "store", settings(), on_progress=lambda *progress: heard.append(progress)
        )
    assert (summary.documents, summary.heldout_documents, summary.reused) == (27, 3, False)
    assert list(dict.fromkeys(what for what, _, _ in heard)) == [
        "reading the corpus",
        "training the vocabulary",
        "encoding",
    ]
    _, done, total = heard[-1]
    assert done == total
    assert any("a document is a group of lines between blank lines" in message for message in caplog.messages)
    assert any("3 documents, chosen by their content, are held out" in message for message in caplog.messages)


def test_a_complete_store_is_not_prepared_again(corpus_dir, tmp_path):
    prepare(str(corpus_dir), tmp_path / "store", settings())
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "store").rglob("*")}
    summary = prepare(str(corpus_dir), tmp_path / "store", settings(num_workers=2))
    assert summary.reused
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "store").rglob("*")}


def test_a_store_that_another_process_made_before_the_lock_is_kept(corpus_dir, tmp_path, monkeypatch):
    class Late(FolderLock):
        def __enter__(self):
            monkeypatch.undo()
            prepare(str(corpus_dir), tmp_path / "store", settings())
            return super().__enter__()

    monkeypatch.setattr(prepare_module, "FolderLock", Late)
    assert prepare(str(corpus_dir), tmp_path / "store", settings()).reused
    monkeypatch.setattr(prepare_module, "FolderLock", Late)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(CorpusError, match=r"other settings \(data.language\)"):
        prepare(str(corpus_dir), tmp_path / "store", settings(language="de"))
    assert TokenStore.open(tmp_path / "store").manifest.settings["language"] != "de"


def test_an_interrupted_preparation_continues_to_the_same_bytes(corpus_dir, tmp_path, small_shards, monkeypatch):
    prepare(str(corpus_dir), tmp_path / "whole", settings())

    def interrupt(what, done, total):
        if what == "encoding" and done > 4000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(str(corpus_dir), tmp_path / "store", settings(), on_progress=interrupt)
    with pytest.raises(CorpusError, match="is not finished"):
        TokenStore.open(tmp_path / "store")
    finished = {file: file.stat().st_mtime_ns for file in (tmp_path / "store").rglob("*.arrow")}
    assert finished
    monkeypatch.setattr(prepare_module, "train_wordpiece", None)  # must not be needed again
    prepare(str(corpus_dir), tmp_path / "store", settings())
    assert all(file.stat().st_mtime_ns == written for file, written in finished.items())
    assert content(tmp_path / "whole") == content(tmp_path / "store")


def test_what_an_interrupted_preparation_of_other_settings_left_goes(corpus_dir, tmp_path, small_shards, caplog):
    def interrupt(what, done, total):
        if what == "encoding" and done > 4000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(str(corpus_dir), tmp_path / "store", settings(sentences="prose"), on_progress=interrupt)
    with caplog.at_level(logging.INFO):
        prepare(str(corpus_dir), tmp_path / "store", settings())
    assert any("holds an unfinished token store of another corpus or of other settings" in m for m in caplog.messages)
    prepare(str(corpus_dir), tmp_path / "whole", settings())
    assert content(tmp_path / "whole") == content(tmp_path / "store")


def test_a_preparation_killed_while_it_made_its_mark_does_not_block_the_folder(corpus_dir, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".preparing.json.partial").write_text('{"finger')
    assert prepare(str(corpus_dir), tmp_path / "store", settings()).documents == 27


def test_a_store_made_anew_in_the_same_process_is_of_its_own_vocabulary(corpus_dir, tmp_path):
    prepare(str(corpus_dir), tmp_path / "store", settings())
    shutil.rmtree(tmp_path / "store")
    cased = settings(tokenizer=TokenizerConfig(vocab_size=120, lowercase=False))
    prepare(str(corpus_dir), tmp_path / "store", cased)
    prepare(str(corpus_dir), tmp_path / "elsewhere", cased)
    assert content(tmp_path / "store") == content(tmp_path / "elsewhere")


def test_an_output_folder_inside_the_corpus_is_no_part_of_it(corpus_dir, tmp_path):
    shutil.copytree(corpus_dir, tmp_path / "corpus")
    first = prepare(str(tmp_path / "corpus"), tmp_path / "corpus" / "store", settings())
    again = prepare(str(tmp_path / "corpus"), tmp_path / "corpus" / "store", settings())
    assert (first.reused, again.reused) == (False, True)
    assert not prepare(str(tmp_path / "corpus"), tmp_path / "store", settings()).reused
    assert content(tmp_path / "corpus" / "store") == content(tmp_path / "store")


def test_an_output_folder_that_cannot_be_made_is_one_sentence(corpus_dir, tmp_path):
    (tmp_path / "file.txt").touch()
    with pytest.raises(CorpusError, match=r"the folder .*file.txt/x cannot be made: Not a directory; choose another"):
        prepare(str(corpus_dir), tmp_path / "file.txt" / "x", settings())
    with pytest.raises(CorpusError, match=r"cannot be made: File name too long"):
        prepare(str(corpus_dir), tmp_path / ("x" * 300), settings())


def test_an_existing_tokenizer_is_taken_as_it_is(corpus_dir, store, tmp_path):
    given = settings(tokenizer=TokenizerConfig(path=str(store.tokenizer_path)))
    prepare(str(corpus_dir), tmp_path / "store", given)
    made = TokenStore.open(tmp_path / "store")
    assert made.vocabulary.hash == store.vocabulary.hash
    assert str(tmp_path) not in (tmp_path / "store" / "manifest.json").read_text()
    assert str(store.path) not in (tmp_path / "store" / "manifest.json").read_text()


def test_a_folder_of_something_else_is_left_alone(corpus_dir, store, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CorpusError, match="holds other files"):
        prepare(str(corpus_dir), tmp_path, settings())
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    for name in ("manifest.json", "preparing.json"):
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / name).write_text('{"name": "of something else"}')
        with pytest.raises(CorpusError, match="holds other files"):
            prepare(str(corpus_dir), tmp_path / "site", settings())
    with pytest.raises(CorpusError, match="is a file"):
        prepare(str(corpus_dir), tmp_path / "mine.txt", settings())
    with pytest.raises(CorpusError, match=r"other settings \(data.language\): choose another"):
        prepare(str(corpus_dir), store.path, settings(language="de"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("Another corpus. " * 9)
    with pytest.raises(CorpusError, match="another corpus or tokenizer"):
        prepare(str(tmp_path / "other"), store.path, settings())


def test_nothing_usable_says_why_and_what_to_do(tmp_path):
    (tmp_path / "a.txt").write_bytes("Ein Käfer.".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"no usable document .* data.encoding=latin-1 \(a.txt#1\)"):
        prepare(str(tmp_path / "a.txt"), tmp_path / "store", settings())
    with pytest.raises(CorpusError, match="there is no file or folder"):
        prepare(str(tmp_path / "b.txt"), tmp_path / "new", settings())
    assert not (tmp_path / "new").exists()


def test_one_document_is_too_few_for_pairs_but_enough_without(tmp_path):
    (tmp_path / "a.txt").write_text("The cat sees the dog. The dog sees the cat. " * 9)
    with pytest.raises(CorpusError, match=r"is one document.*data.document=blank-line.*pairs.next_sentence=off"):
        prepare(str(tmp_path / "a.txt"), tmp_path / "store", settings())
    summary = prepare(str(tmp_path / "a.txt"), tmp_path / "store", settings(), needs_pairs=False)
    assert (summary.documents, summary.heldout_documents) == (1, 0)


def test_a_vocabulary_that_does_not_fit_is_refused(store, tmp_path):
    (tmp_path / "a.txt").write_text("東京は大きい。\n\n我来到北京。\n\n清华大学。\n")
    given = settings(document="blank-line", tokenizer=TokenizerConfig(path=str(store.tokenizer_path)))
    with pytest.raises(CorpusError, match="unknown to the vocabulary"):
        prepare(str(tmp_path / "a.txt"), tmp_path / "store", given)


def test_a_full_disk_is_one_sentence_and_the_work_continues_after(corpus_dir, tmp_path, monkeypatch):
    def full(path):
        if "shards" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("bertkit.whole._sync", full)
        with pytest.raises(CorpusError, match=r"the disk that holds .* is full .* run it again, it continues"):
            prepare(str(corpus_dir), tmp_path / "store", settings())
    assert not list((tmp_path / "store" / "shards").iterdir())
    assert not prepare(str(corpus_dir), tmp_path / "store", settings()).reused


def test_half_copied_text_is_warned_about(tmp_path, caplog):
    lines = "\n".join(f"This very line number {number} is a copy." for number in range(20))
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(f"The title is {name}.\n{lines}")
    with caplog.at_level(logging.WARNING):
        prepare(str(tmp_path / "*.txt"), tmp_path / "store", settings(document="file"))
    assert any("75% of the longer lines are copies" in message for message in caplog.messages)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="the folder in which nobody can make one is Linux's")
def test_an_output_folder_the_system_refuses_is_one_sentence(corpus_dir):
    with pytest.raises(CorpusError, match=r"the folder /proc/x cannot be made: No such file or directory"):
        prepare(str(corpus_dir), Path("/proc/x"), settings())
