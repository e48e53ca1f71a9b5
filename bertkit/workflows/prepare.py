"""A corpus becomes a token store: survey it, get a vocabulary, encode it shard by shard, and say so in a manifest.

A store is complete when its manifest is there, which is written last. Everything before can be interrupted at any
moment: finished shards are recognised by the hash of the work they hold, and kept.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash

from bertkit.config.data import DataConfig
from bertkit.config.leaves import EXECUTION
from bertkit.data import dropped as reasons
from bertkit.data.corpus import Corpus, RawDocument, ReadingOptions, open_corpus
from bertkit.data.encode import EncodingOptions, IntArray, find_segmenter
from bertkit.data.fit import VocabularyFit, measure_fit, refuse_misfit
from bertkit.data.folders import full_disk_named, make_folder
from bertkit.data.manifest import FORMAT_VERSION, Manifest, SplitInfo, local_path
from bertkit.data.pool import ordered_map, usable_cores
from bertkit.data.shard import ShardReport, cut_shards, make_shard
from bertkit.data.store import SHARD_FOLDER, SPLITS, TOKENIZER_FOLDER
from bertkit.data.store_writer import begin_store, complete_store, finish_store
from bertkit.data.survey import Survey, survey_corpus, training_texts
from bertkit.data.tokenizer import LoadedTokenizer, WordPieceOptions, load_tokenizer, save_tokenizer, train_wordpiece
from bertkit.errors import ConfigError, CorpusError
from bertkit.lock import FolderLock
from bertkit.whole import written_whole

logger = logging.getLogger(__name__)

# Called with what is being done, how far it is and how far it goes (None: not known yet), in characters of text.
Progress = Callable[[str, int, int | None], None]

SHARD_CHARS: Final = 4_000_000
# Starting processes and teaching each the frequent words costs more than a second; below this the threads win.
LEAST_SHARDS_FOR_PROCESSES: Final = 10
LEAST_TRAINING_DOCUMENTS: Final = 2


@dataclass(frozen=True)
class PrepareSummary:
    """What lies in the store; `reused` when it was there already."""

    output_dir: Path | str
    reused: bool
    documents: int
    heldout_documents: int
    sentences: int
    tokens: int
    vocab_size: int
    unknown_share: float
    dropped: Mapping[str, int]


def prepare(
    corpus: str,
    output_dir: Path | str,
    config: DataConfig,
    *,
    needs_pairs: bool = True,
    on_progress: Progress | None = None,
) -> PrepareSummary:
    """Make the token store of a corpus, continue an interrupted one, or recognise a complete one.

    `needs_pairs` says that pre-training will draw sentence pairs, for which one document is not enough.
    Raises CorpusError when the corpus, the tokenizer or the folder cannot be used.
    """
    progress = on_progress or (lambda description, done, total: None)
    folder = local_path(output_dir)
    if folder is None:
        raise ConfigError(f"{output_dir} is no local folder: add --executor local, which writes to any file system")
    source = open_corpus(corpus, reading_options(config))
    given = load_tokenizer(config.tokenizer.path) if config.tokenizer.path else None
    if config.cluster.filters or config.cluster.minhash:
        raise ConfigError(
            "data.cluster.filters and data.cluster.minhash need an executor: prepare the corpus with "
            "bertkit prepare --executor local"
        )
    if any(file.format == "warc" for file in source.files):
        raise ConfigError(
            f"{corpus!r} holds web archives: prepare it with bertkit prepare --executor local, and for pages of HTML "
            "name an extractor, such as Trafilatura, in data.cluster.filters"
        )
    identity = identify(settings_of(config, given), source.fingerprint(), source_files=len(source.files))
    if reused := _reused(folder, identity):
        return reused
    make_folder(folder)
    with full_disk_named(folder), FolderLock(folder):
        # Another process may have made it since.
        if reused := _reused(folder, identity):
            return reused
        begin_store(folder, fingerprint=identity.fingerprint)
        survey = _survey(source, config, needs_pairs=needs_pairs, progress=progress)
        tokenizer = _save_tokenizer(given, source, survey, config, folder=folder / TOKENIZER_FOLDER, progress=progress)
        fit = check_fit(tokenizer, survey)
        encoded = _encode(source, survey, tokenizer, config, output_dir=folder, progress=progress)
        manifest = describe(identity, survey, tokenizer, encoded.reports, fit=fit)
        finish_store(folder, manifest, unigram_counts=encoded.unigram_counts)
    return summarize(folder, manifest, reused=False)


def _reused(folder: Path, identity: "Identity") -> PrepareSummary | None:
    """The summary of the complete store in a folder; None when the folder is free for it."""
    complete = complete_store(folder, fingerprint=identity.fingerprint, settings=identity.settings)
    if complete is None:
        return None
    logger.info("%s", f"the token store in {folder} is of this corpus and these settings already")
    return summarize(folder, complete.manifest, reused=True)


@dataclass(frozen=True)
class Identity:
    """What a store is made from: equal fingerprints give equal bytes."""

    settings: Mapping[str, Any]
    source_fingerprint: str
    source_files: int
    fingerprint: str


def settings_of(config: DataConfig, given: LoadedTokenizer | None) -> Mapping[str, Any]:
    """The settings that a store's content depends on."""
    execution = {name for name, field in DataConfig.model_fields.items() if field.json_schema_extra == EXECUTION}
    settings = config.model_dump(mode="json", exclude=execution | {"cluster"})
    if config.cluster.filters or config.cluster.minhash:
        # Which of two like documents goes, and what is counted as what, depends on which lie in one task.
        settings["cluster"] = config.cluster.model_dump(mode="json", include={"filters", "minhash", "task_mb"})
    if given:
        # An existing tokenizer goes by its content, not by where it lies.
        settings["tokenizer"] = {"given": given.vocabulary.hash}
    return settings


def identify(settings: Mapping[str, Any], source_fingerprint: str, *, source_files: int) -> Identity:
    """The identity of a store made under these settings from a corpus of this fingerprint."""
    parts = json.dumps([FORMAT_VERSION, source_fingerprint, settings], sort_keys=True)
    return Identity(settings, source_fingerprint, source_files, xxhash.xxh3_128_hexdigest(parts.encode()))


def reading_options(config: DataConfig) -> ReadingOptions:
    """How a corpus is read, as the `data` section says."""
    return ReadingOptions(**{field.name: getattr(config, field.name) for field in fields(ReadingOptions)})


def wordpiece_options(config: DataConfig) -> WordPieceOptions:
    """How the vocabulary is made, as the `data.tokenizer` section says."""
    tokenizer = config.tokenizer
    return WordPieceOptions(
        vocab_size=tokenizer.vocab_size,
        lowercase=tokenizer.lowercase,
        strip_accents=tokenizer.strip_accents,
        split_chinese_chars=tokenizer.split_chinese_chars,
        min_frequency=tokenizer.min_frequency,
    )


def _survey(source: Corpus, config: DataConfig, *, needs_pairs: bool, progress: Progress) -> Survey:
    if config.word_segmenter == "jieba":
        find_segmenter()
    survey = survey_corpus(
        source, heldout_share=config.heldout_share, on_chars=lambda chars: progress("reading the corpus", chars, None)
    )
    check_survey(survey, source.location, needs_pairs=needs_pairs)
    return survey


def check_survey(survey: Survey, location: str, *, needs_pairs: bool) -> None:
    """Say what was found; raises CorpusError when there is too little to train on."""
    if not survey.documents:
        found = [survey.notes.dropped.sentence(reason) for reason in survey.notes.dropped.as_dict()]
        raise CorpusError(f"there is no usable document in {location!r}: {'; '.join(found) or 'it has no rows'}")
    survey.report()
    if needs_pairs and survey.documents - len(survey.heldout) < LEAST_TRAINING_DOCUMENTS:
        raise CorpusError(
            f"{location!r} is one document, and a random next sentence must come from another one: cut it with "
            "data.document=blank-line or data.document=heading:REGEX, or train without pairs (pairs.next_sentence=off)"
        )


def _save_tokenizer(
    given: LoadedTokenizer | None,
    source: Corpus,
    survey: Survey,
    config: DataConfig,
    *,
    folder: Path,
    progress: Progress,
) -> LoadedTokenizer:
    """Put the given or a newly trained tokenizer into the store, unless an interrupted prepare has done so."""
    if not folder.is_dir():
        with written_whole(folder) as aside:
            if given:
                given.pretrained.save_pretrained(aside)
            else:
                texts = training_texts(source, survey, max_bytes=config.tokenizer.max_training_mb * 1_000_000)
                heard = _heard(texts, lambda chars: progress("training the vocabulary", chars, survey.chars))
                options = wordpiece_options(config)
                save_tokenizer(train_wordpiece(heard, options, characters=survey.characters), aside, options)
    return load_tokenizer(folder)


def _heard(texts: Iterator[str], on_chars: Callable[[int], None]) -> Iterator[str]:
    chars = 0
    for text in texts:
        yield text
        chars += len(text)
        on_chars(chars)


def check_fit(tokenizer: LoadedTokenizer, survey: Survey) -> VocabularyFit:
    """Say how well the vocabulary fits the corpus; raises CorpusError when it does not."""
    fit = measure_fit(tokenizer.engine, survey.excerpts, unk_id=tokenizer.vocabulary.unk_id)
    refuse_misfit(fit)
    logger.info("%s", fit.sentence())
    return fit


def _encode(
    source: Corpus,
    survey: Survey,
    tokenizer: LoadedTokenizer,
    config: DataConfig,
    *,
    output_dir: Path,
    progress: Progress,
) -> "Encoded":
    """Encode every document in processes; which document lies where depends on the corpus alone."""
    options = encoding_options(config, tokenizer, folder=output_dir / TOKENIZER_FOLDER)

    def split_of(document: RawDocument) -> str:
        return "heldout" if survey.is_heldout(document) else "train"

    works = cut_shards(source.documents(), split_of=split_of, shard_chars=SHARD_CHARS)
    num_workers = config.num_workers or usable_cores()
    if survey.chars < LEAST_SHARDS_FOR_PROCESSES * SHARD_CHARS:
        num_workers = 1
    done, encoded = 0, Encoded(tokenizer.vocabulary.size)
    progress("encoding", done, survey.chars)
    work = partial(make_shard, folder=output_dir / SHARD_FOLDER, options=options)
    for report in ordered_map(work, works, num_workers=num_workers):
        done += report.chars
        progress("encoding", done, survey.chars)
        encoded.add(report)
    return encoded


class Encoded:
    """The reports of shards in order, and how often each id occurs in the train split: one array, not one a shard."""

    def __init__(self, vocab_size: int) -> None:
        self.reports: list[ShardReport] = []
        self.unigram_counts: IntArray = np.zeros(vocab_size, dtype=np.int64)

    def add(self, report: ShardReport) -> None:
        """Take in the next shard's report."""
        if report.split == "train":
            self.unigram_counts += report.id_counts
        self.reports.append(replace(report, id_counts=np.empty(0, dtype=np.int64)))


def encoding_options(config: DataConfig, tokenizer: LoadedTokenizer, *, folder: Path) -> EncodingOptions:
    """What the work on a shard depends on besides the text; the tokenizer lies in `folder`."""
    return EncodingOptions(
        tokenizer_file=str(folder / "tokenizer.json"),
        tokenizer_hash=tokenizer.vocabulary.hash,
        vocab_size=tokenizer.vocabulary.size,
        language=config.language,
        word_segmenter=config.word_segmenter,
    )


def describe(
    identity: Identity,
    survey: Survey,
    tokenizer: LoadedTokenizer,
    reports: Sequence[ShardReport],
    *,
    fit: VocabularyFit,
) -> Manifest:
    """The manifest of a store whose shards are these."""
    dropped = survey.notes.dropped
    dropped.add(reasons.EMPTY_SENTENCE, count=sum(report.empty_sentences for report in reports))
    dropped.add(reasons.EMPTY, count=sum(report.empty_documents for report in reports))
    return Manifest(
        fingerprint=identity.fingerprint,
        source_fingerprint=identity.source_fingerprint,
        source_files=identity.source_files,
        tokenizer_hash=tokenizer.vocabulary.hash,
        vocab_size=tokenizer.vocabulary.size,
        settings=identity.settings,
        splits={split: SplitInfo(tuple(r.info for r in reports if r.split == split)) for split in SPLITS},
        dropped=dropped.as_dict(),
        decisions=dict(survey.notes.decisions),
        duplicate_line_share=survey.duplicate_line_share,
        unknown_share=fit.unknown_share,
    )


def summarize(location: Path | str, manifest: Manifest, *, reused: bool) -> PrepareSummary:
    """What a user reads about the store at `location`."""
    train, heldout = manifest.splits["train"], manifest.splits["heldout"]
    return PrepareSummary(
        output_dir=location,
        reused=reused,
        documents=train.documents,
        heldout_documents=heldout.documents,
        sentences=train.sentences,
        tokens=train.tokens,
        vocab_size=manifest.vocab_size,
        unknown_share=manifest.unknown_share,
        dropped=manifest.dropped,
    )
