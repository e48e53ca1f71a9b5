"""English out of docstrings, and the corpus made of it."""

import errno
import json
from pathlib import Path

import pytest

from bertkit.data import demo_corpus
from bertkit.data.demo_corpus import write_demo_corpus
from bertkit.data.docstrings import english_sentences, read_docstrings
from bertkit.errors import CorpusError

NUMPY_STYLE = """
Return the *sorted* unique elements of an array, see :func:`numpy.sort`.

Finds the elements. There are three ``optional`` outputs in
addition to the unique elements [1]_, all of them arrays::

    code = block()

.. versionadded:: 1.2

Parameters
----------
ar : array_like, optional
    Input array that is flattened unless an axis is given.

====  =====
name  value
====  =====

Args:
    axis (`int`, *optional*): The axis to operate on, if there is one.

- A list item is a sentence of its own, too.

>>> np.unique([1, 1, 2])
array([1, 2])
"""


def test_only_english_sentences_are_left_of_a_docstring():
    assert list(english_sentences(NUMPY_STYLE)) == [
        "Return the sorted unique elements of an array, see sort.",
        "There are three optional outputs in addition to the unique elements, all of them arrays:",
        "Input array that is flattened unless an axis is given.",
        "The axis to operate on, if there is one.",
        "A list item is a sentence of its own, too.",
    ]


def test_a_file_is_parsed_and_never_run(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        '"""Module."""\nraise SystemExit\nclass A:\n    """Class."""\n    def f(self):\n        r"""F \\d."""\n'
    )
    assert list(read_docstrings(file)) == ["Module.", "Class.", "F \\d."]
    for broken in (b"def (", b"\xff\xfe", b"a\0b"):
        file.write_bytes(broken)
        assert list(read_docstrings(file)) == []


@pytest.fixture
def few_modules(monkeypatch):
    folder = demo_corpus._package_folders("json")[0]
    chosen = list(demo_corpus._modules_below(folder, package="json", prefix="json."))
    topics = [demo_corpus._Module(f"topic.{n}", "python", topic=NUMPY_STYLE) for n in range(2)]
    monkeypatch.setattr(demo_corpus, "_modules", lambda: iter([*chosen, *topics]))


def test_the_corpus_is_the_same_each_time_and_says_each_sentence_once(few_modules, tmp_path):
    corpus = write_demo_corpus(tmp_path / "a", num_workers=1)
    again = write_demo_corpus(tmp_path / "b", num_workers=1)
    assert corpus.path.read_bytes() == again.path.read_bytes()
    rows = [json.loads(line) for line in corpus.path.read_text().splitlines()]
    assert [row["module"] for row in rows] == ["json.__init__", "json.decoder", "json.encoder", "topic.0"]
    assert {row["package"] for row in rows} == {"json", "python"}
    sentences = [sentence for row in rows for sentence in row["text"].split("\n")]
    assert len(sentences) == len(set(sentences)) == corpus.sentences
    assert corpus.documents == 4
    assert corpus.chars == sum(corpus.chars_by_package.values()) == sum(len(row["text"]) for row in rows)


def test_modules_are_found_without_importing_and_without_tests():
    modules = list(
        demo_corpus._modules_below(demo_corpus._package_folders("email")[0], package="email", prefix="email.")
    )
    assert "email.mime.text" in [module.name for module in modules]
    assert demo_corpus._package_folders("no_such_package") == ()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match=r"the folder .*file/x cannot be made: Not a directory"):
        write_demo_corpus(tmp_path / "file" / "x")


def test_a_folder_one_may_not_write_to_is_one_sentence(few_modules, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CorpusError, match="cannot write to .* choose another"):
        write_demo_corpus(tmp_path, num_workers=1)
