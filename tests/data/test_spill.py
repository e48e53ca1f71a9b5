"""What was read, kept compressed: every document comes back whole, in order, and only those that are wanted."""

import numpy as np
import pytest

from bertkit.data import spill as spill_module
from bertkit.data.any_folder import AnyFolder
from bertkit.data.corpus import RawDocument
from bertkit.data.seen import hash_text
from bertkit.data.spill import Spill, read_index, read_spilled

DOCUMENTS = [
    RawDocument(f"a.txt#{number}", text, layout, hash_text(text))
    for number, (text, layout) in enumerate(
        [("The cat.\n", "line"), ("東京は大きい。", "paragraph"), ("x" * 50, "wrapped"), ("Ein Käfer.", "line")]
    )
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(spill_module, "BATCH_CHARS", 12)
    folder = AnyFolder(str(tmp_path))
    with Spill(folder, 3) as spill:
        for document in DOCUMENTS:
            spill.add(document)
    return folder


def test_documents_come_back_as_they_were(folder):
    everything = np.ones(4, np.uint8)
    assert list(read_spilled(folder, 3, everything)) == list(enumerate(DOCUMENTS))


def test_only_what_is_wanted_is_read(folder):
    wanted = np.array([1, 0, 0, 2], np.uint8)
    assert [row for row, _ in read_spilled(folder, 3, wanted)] == [0, 3]
    assert [row for row, _ in read_spilled(folder, 3, wanted, first=1)] == [3]
    assert list(read_spilled(folder, 3, np.zeros(4, np.uint8))) == []


def test_the_index_tells_hashes_and_sizes_without_the_text(folder):
    index = read_index(folder, 3)
    assert index.digests.tolist() == [document.digest for document in DOCUMENTS]
    assert index.chars.tolist() == [9, 7, 50, 10]
    assert index.bytes.tolist() == [9, 21, 50, 11]
    assert index.batch_ends.tolist() == [2, 3, 4]


def test_a_part_without_documents_is_kept_too(tmp_path):
    folder = AnyFolder(str(tmp_path))
    with Spill(folder, 0):
        pass
    assert list(read_spilled(folder, 0, np.empty(0, np.uint8))) == []
    assert read_index(folder, 0).digests.tolist() == []


def test_a_spill_that_was_interrupted_leaves_nothing(tmp_path):
    folder = AnyFolder(str(tmp_path / "work"))
    with pytest.raises(KeyboardInterrupt), Spill(folder, 0):
        raise KeyboardInterrupt
    assert folder.names() == []
