"""Encoding and the files of the store: word memory changes nothing, damage is seen, splits are apart."""

import json
import shutil
import weakref

import numpy as np
import pytest
from tokenizers import Tokenizer

from bertkit.data.corpus import RawDocument
from bertkit.data.encode import EncodingOptions, SentenceEncoder, encode_documents, find_segmenter, work_digest
from bertkit.data.shard import ShardWork, cut_shards, make_shard, shard_digest
from bertkit.data.shard_files import is_intact
from bertkit.data.store import TokenStore, is_store
from bertkit.data.tokenizer import CharacterCounts, WordPieceOptions, save_tokenizer, train_wordpiece
from bertkit.errors import CorpusError

TEXT = "The cat sees the dogs. Houses near the river, 3.5 km away! Déjà vu. 我来到北京清华大学。"


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    counts = CharacterCounts()
    counts.add(TEXT)
    options = WordPieceOptions(vocab_size=150, min_frequency=1)
    save_tokenizer(train_wordpiece([TEXT], options, characters=counts.as_dict()), folder, options)
    return folder


@pytest.fixture
def options(tokenizer_folder):
    return EncodingOptions(str(tokenizer_folder / "tokenizer.json"), tokenizer_hash="abc", vocab_size=150)


def raw(name, text):
    return RawDocument(name, text, layout="line", digest=hash(text) % 2**64)


def test_remembered_words_give_the_ids_the_tokenizer_gives(tokenizer_folder, monkeypatch):
    monkeypatch.setattr("bertkit.data.encode.REMEMBERED_WORDS", 3)
    engine = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    encoder = SentenceEncoder(engine, id_dtype=np.dtype(np.uint16))
    sentences = [
        "The cat.",
        "",
        "it\u0301 \u0301a the dogs",
        "[MASK] [SEP]the",
        "x\u200by",
        "houses, houses",
        "我来 到北京",
    ]
    for _ in range(2):
        tokens, lengths = encoder.encode(sentences)
        expected = [engine.encode(sentence, add_special_tokens=False).ids for sentence in sentences]
        assert tokens.tolist() == [index for ids in expected for index in ids]
        assert lengths.tolist() == list(map(len, expected))
        assert not set(tokens.tolist()) & {2, 3, 4}


def test_what_has_no_token_is_left_out_and_counted(options):
    documents = [raw("a", "The cat.\n\u200b\nThe dogs."), raw("b", "\u200b"), raw("c", "Houses.")]
    encoded = encode_documents(documents, options)
    assert encoded.ids == ("a", "c")
    assert encoded.document_lengths.tolist() == [2, 1]
    assert (encoded.empty_sentences, encoded.empty_documents) == (2, 1)
    assert encoded.sentence_lengths.sum() == len(encoded.tokens)


def test_a_shard_reads_back_what_was_written(options, tmp_path):
    work = ShardWork("train", 0, (raw("a", "The cat.\nThe dogs."), raw("b", "Houses near the river.")))
    report = make_shard(work, tmp_path, options)
    assert (report.info.name, report.info.documents, report.info.sentences) == ("train-00000.arrow", 2, 3)
    assert report.id_counts.sum() == report.info.tokens
    from bertkit.data.store import Shard

    shard = Shard(tmp_path / "train-00000.arrow")
    assert shard.document_ids == ("a", "b")
    assert shard.document_offsets.tolist() == [0, 2, 3]
    assert shard.tokens.dtype == np.uint16
    engine = Tokenizer.from_file(options.tokenizer_file)
    first, last = shard.sentence_offsets[2:4]
    assert engine.decode(shard.tokens[first:last].tolist()) == "houses near the river."
    assert shard.word_starts is None


def test_whole_chinese_words_are_marked(options, tmp_path):
    segmented = EncodingOptions(**vars(options) | {"word_segmenter": "jieba"})
    document = raw("a", "我来到北京清华大学。the dogs")
    make_shard(ShardWork("train", 0, (document,)), tmp_path, segmented)
    from bertkit.data.store import Shard

    shard = Shard(tmp_path / "train-00000.arrow")
    starts = shard.word_starts.tolist()
    assert starts[:11] == [True, True, False, True, False, True, False, False, False, True, True]
    assert len(starts) == len(shard.tokens)
    assert work_digest([document], options) != work_digest([document], segmented)


def test_a_missing_segmenter_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rjieba", None)
    with pytest.raises(CorpusError, match="pip install rjieba"):
        find_segmenter()


def test_finished_work_is_kept_and_half_a_file_is_not(options, tmp_path):
    work = ShardWork("train", 0, (raw("a", "The cat."),))
    make_shard(work, tmp_path, options)
    path = tmp_path / work.name
    written = path.stat().st_mtime_ns
    make_shard(work, tmp_path, options)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(path.read_bytes()[:-40])
    assert shard_digest(path) is None
    make_shard(work, tmp_path, options)
    assert shard_digest(path) == work_digest(work.documents, options)
    assert [file.name for file in tmp_path.iterdir()] == [work.name]


def test_shards_are_cut_by_text_and_by_split():
    documents = [raw(str(number), "x" * 40) for number in range(7)]
    works = list(cut_shards(documents, split_of=lambda d: "heldout" if d.id in "36" else "train", shard_chars=100))
    assert [(work.name, [d.id for d in work.documents]) for work in works] == [
        ("train-00000.arrow", ["0", "1", "2"]),
        ("heldout-00000.arrow", ["3", "6"]),
        ("train-00001.arrow", ["4", "5"]),
    ]


@pytest.fixture
def copy_of_store(store, tmp_path):
    shutil.copytree(store.path, tmp_path / "store")
    return tmp_path / "store"


def test_the_store_is_what_its_manifest_says(store):
    train, heldout = store.split("train"), store.split("heldout")
    assert heldout.num_documents == 3
    assert not {i for s in train.shards for i in s.document_ids} & {i for s in heldout.shards for i in s.document_ids}
    for split in (train, heldout):
        assert split.num_tokens == sum(len(shard.tokens) for shard in split.shards)
        assert split.num_sentences == sum(len(shard.sentence_offsets) - 1 for shard in split.shards)
        assert split.num_documents == sum(len(shard.document_ids) for shard in split.shards)
    assert store.unigram_counts.shape == (store.vocabulary.size,)
    assert store.unigram_counts.sum() == train.num_tokens
    assert not store.unigram_counts[list(store.vocabulary.special_ids)].any()


def test_a_truncated_shard_is_named(copy_of_store):
    shard = next((copy_of_store / "shards").glob("train-*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CorpusError, match=r"train-00000.arrow has .* bytes instead of"):
        TokenStore.open(copy_of_store)
    shard.unlink()
    with pytest.raises(CorpusError, match=r"train-00000.arrow is missing"):
        TokenStore.open(copy_of_store)


def test_flipped_bytes_are_found_when_the_shard_is_first_read(copy_of_store):
    shard = next((copy_of_store / "shards").glob("train-*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    opened = TokenStore.open(copy_of_store)
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"train-00000.arrow is damaged, .*put a good copy in its place"):
            _ = opened.split("train").shards[0].tokens
    assert len(opened.split("heldout").shards[0].tokens) > 0


def test_a_shard_is_hashed_once_however_often_it_is_opened(copy_of_store, monkeypatch):
    hashed = []

    def noted(mapped, info):
        hashed.append(info.name)
        return is_intact(mapped, info)

    monkeypatch.setattr("bertkit.data.shard_files.is_intact", noted)
    opened = TokenStore.open(copy_of_store)
    for _ in range(3):
        for name in ("train", "heldout"):
            assert all(len(shard.tokens) for shard in opened.split(name).shards)
    assert sorted(hashed) == ["heldout-00000.arrow", "train-00000.arrow"]


def test_word_counts_that_are_missing_damaged_or_of_another_store_are_named(copy_of_store):
    file = copy_of_store / "unigrams.npy"
    opened = TokenStore.open(copy_of_store)
    np.save(file, np.zeros(3))
    with pytest.raises(CorpusError, match=r"unigrams.npy is not of this store"):
        _ = opened.unigram_counts
    for damage in (b"", b"\x93NUMPY", b"no numbers"):
        file.write_bytes(damage)
        with pytest.raises(CorpusError, match=r"unigrams.npy is missing or damaged"):
            _ = opened.unigram_counts
    file.unlink()
    with pytest.raises(CorpusError, match=r"unigrams.npy is missing or damaged"):
        _ = opened.unigram_counts


def test_a_store_without_a_manifest_is_missing_or_unfinished(copy_of_store, tmp_path):
    with pytest.raises(CorpusError, match="there is no token store in"):
        TokenStore.open(tmp_path)
    (copy_of_store / "manifest.json").rename(copy_of_store / "preparing.json")
    with pytest.raises(CorpusError, match="is not finished"):
        TokenStore.open(copy_of_store)


def test_another_format_version_or_a_broken_manifest_is_said(copy_of_store):
    manifest = copy_of_store / "manifest.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values | {"format_version": 99}))
    with pytest.raises(CorpusError, match=r"format version 99, this bertkit reads 1"):
        TokenStore.open(copy_of_store)
    for broken in ("{", "[]", "{}", json.dumps(values | {"splits": 3})):
        manifest.write_text(broken)
        with pytest.raises(CorpusError, match=r"manifest\.json is damaged"):
            TokenStore.open(copy_of_store)


def test_another_tokenizer_in_the_store_is_seen(copy_of_store):
    file = copy_of_store / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text().replace('"the"', '"tho"'))
    with pytest.raises(CorpusError, match="is not the tokenizer this store was made with"):
        _ = TokenStore.open(copy_of_store).vocabulary


def test_shards_are_new_each_time_so_that_what_was_read_is_freed(store):
    train = store.split("train")
    first = train.shards[0]
    assert len(first.document_offsets) > 1
    assert train.shards[0] is not first
    assert "document_offsets" not in vars(train.shards[0])
    freed = weakref.ref(first)
    del first
    assert freed() is None


def test_a_store_is_known_by_what_its_manifest_says(store, copy_of_store, tmp_path):
    assert is_store(store.path)
    assert store.fingerprint == store.manifest.fingerprint
    (copy_of_store / "manifest.json").unlink()
    assert not is_store(copy_of_store)
    (copy_of_store / "preparing.json").write_text('{"fingerprint": "abc"}')
    assert is_store(copy_of_store)
    for name in ("manifest.json", "preparing.json"):
        for other in ('{"name": "app", "version": 3}', "[1]", "no json", ""):
            (tmp_path / name).write_text(other)
            assert not is_store(tmp_path)
    assert not is_store(tmp_path / "missing")


def test_another_tokenizer_at_the_same_path_is_not_taken_for_the_remembered_one(tokenizer_folder, tmp_path):
    file = tmp_path / "tokenizer.json"
    shutil.copy(tokenizer_folder / "tokenizer.json", file)
    before = encode_documents([raw("a", "the")], EncodingOptions(str(file), tokenizer_hash="1", vocab_size=150))
    swapped = json.loads(file.read_text())
    vocabulary = swapped["model"]["vocab"]
    vocabulary["the"], vocabulary["."] = vocabulary["."], vocabulary["the"]
    file.write_text(json.dumps(swapped))
    after = encode_documents([raw("a", "the")], EncodingOptions(str(file), tokenizer_hash="2", vocab_size=150))
    assert before.tokens.tolist() == [vocabulary["."]]
    assert after.tokens.tolist() == [vocabulary["the"]]
