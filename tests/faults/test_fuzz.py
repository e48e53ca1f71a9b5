"""5,200 hostile inputs: each comes to a result or one error line, in time, in memory, inside its output folder."""

import pytest
import zstandard
from hostile_inputs import COMPRESS, Corpora, LabelledFiles, Models, Recipes, fuzz

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

# More than twice what the commands take in all, were it read at once.
BOMB_BYTES = 1 << 30


@pytest.mark.parametrize(
    ("inputs", "max_examples"), [(Corpora, 1400), (LabelledFiles, 1600), (Recipes, 1200), (Models, 1000)]
)
def test_hostile_input_ends_in_a_result_or_one_line(inputs, max_examples, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    fuzz(inputs(tmp_path), max_examples=max_examples)


def bomb(kind, unit):
    """A small file that unpacks to a gigabyte."""
    if kind == "zst":
        packer = zstandard.ZstdCompressor().compressobj()
        return b"".join([*(packer.compress(unit) for _ in range(BOMB_BYTES // len(unit))), packer.flush()])
    # Members and streams may follow one another.
    return COMPRESS[kind](unit * (BOMB_BYTES // len(unit) // 64)) * 64


@pytest.mark.parametrize("name", ["b.txt.gz", "b.txt.xz", "b.jsonl.zst", "b.csv.gz", "b.parquet.zst"])
def test_a_file_that_unpacks_to_a_gigabyte_fills_no_memory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpora = Corpora(tmp_path)
    content = bomb(name.rpartition(".")[2], b"x" * (1 << 20))
    assert corpora.try_one([("a.txt", corpora.files["a.txt"]), (name, content)]) in (0, 2)
