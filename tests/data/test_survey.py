"""A survey of parts, added up, is the survey of the whole; and a corpus is cut into parts by what it holds alone."""

import pytest
from toy_corpus import write_corpus

from bertkit.data import seen as seen_module
from bertkit.data import survey as survey_module
from bertkit.data.corpus import ReadingNotes, ReadingOptions, open_corpus
from bertkit.data.partition import cut_corpus, listing_hash, part_bytes
from bertkit.data.survey import SurveyCounts


@pytest.fixture
def corpus(tmp_path):
    for number in range(5):
        write_corpus(tmp_path / str(number), documents=7, seed=number)
    return open_corpus(str(tmp_path), ReadingOptions())


def counted(corpus):
    counts = SurveyCounts()
    for document in corpus.documents():
        counts.add(document)
    return counts


def told(survey):
    """What a survey says, in values that compare: from Python 3.13 on a dataclass with an array in it does not."""
    return {**vars(survey), "heldout": survey.heldout.tolist()}


@pytest.mark.parametrize("sampled_hashes", [1 << 22, 64])
def test_surveys_of_parts_add_up_to_the_survey_of_the_whole(corpus, monkeypatch, sampled_hashes):
    monkeypatch.setattr(seen_module, "SAMPLED_HASHES", sampled_hashes)
    monkeypatch.setattr(survey_module, "EXCERPTS", 9)
    whole, added = counted(corpus), SurveyCounts()
    for part in cut_corpus(corpus, part_bytes=1):
        added.merge(counted(part).as_arrays())
    nothing = ReadingNotes(), whole.as_arrays()["lines"]
    assert told(added.surveyed(*nothing)) == told(whole.surveyed(*nothing))
    assert added.documents == 35
    assert len(added.surveyed(*nothing).excerpts) == 9


def test_parts_are_neighbouring_files_of_about_equal_size(corpus):
    size = part_bytes(corpus)
    parts = cut_corpus(corpus, part_bytes=size // 2)
    assert [[file.name[0] for file in part.files] for part in parts] == [["0", "1", "2"], ["3", "4"]]
    assert [part.files for part in cut_corpus(corpus, part_bytes=10 * size)] == [corpus.files]
    assert sum(len(part.files) for part in cut_corpus(corpus, part_bytes=1)) == 5


def test_the_listing_tells_when_a_file_changes(corpus, tmp_path):
    before = listing_hash(corpus)
    assert listing_hash(open_corpus(str(tmp_path), ReadingOptions())) == before
    (tmp_path / "6.txt").write_text("New text.")
    assert listing_hash(open_corpus(str(tmp_path), ReadingOptions())) != before
