"""A corpus becomes a token store: survey it, get a vocabulary, encode it shard by shard, and say so in a manifest.

A store is complete when its manifest is there, which is written last. Everything before can be interrupted at any
moment: finished shards are recognised by the hash of the work they hold, and kept.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash

from bertkit.config.schema import EXECUTION, DataConfig
from bertkit.data import dropped as reasons
from bertkit.data.corpus import Corpus, RawDocument, ReadingOptions, open_corpus
from bertkit.data.encode import EncodingOptions, IntArray, find_segmenter
from bertkit.data.fit import VocabularyFit, measure_fit, refuse_misfit
from bertkit.data.folders import full_disk_named
from bertkit.data.manifest import FORMAT_VERSION, Manifest, SplitInfo
from bertkit.data.pool import ordered_map, usable_cores
from bertkit.data.shard import ShardReport, cut_shards, make_shard
from bertkit.data.store import SHARD_FOLDER, SPLITS, TOKENIZER_FOLDER, TokenStore
from bertkit.data.store_writer import begin_store, complete_store, finish_store
from bertkit.data.survey import Survey, survey_corpus, training_texts
from bertkit.data.tokenizer import LoadedTokenizer, WordPieceOptions, load_tokenizer, save_tokenizer, train_wordpiece
from bertkit.errors import CorpusError
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

    output_dir: Path
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
    output_dir: Path,
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
    source = open_corpus(corpus, reading_options(config))
    given = load_tokenizer(config.tokenizer.path) if config.tokenizer.path else None
    identity = _identify(source, config, given)
    if complete := complete_store(output_dir, fingerprint=identity.fingerprint, settings=identity.settings):
        logger.info("%s", f"the token store in {output_dir} is of this corpus and these settings already")
        return _summarize(complete, reused=True)
    with full_disk_named(output_dir):
        begin_store(output_dir, fingerprint=identity.fingerprint)
        survey = _survey(source, config, needs_pairs=needs_pairs, progress=progress)
        tokenizer = _save_tokenizer(
            given, source, survey, config, folder=output_dir / TOKENIZER_FOLDER, progress=progress
        )
        fit = _check_fit(tokenizer, survey)
        reports = _encode(source, survey, tokenizer, config, output_dir=output_dir, progress=progress)
        manifest = _describe(identity, survey, tokenizer, reports, fit=fit)
        finish_store(output_dir, manifest, unigram_counts=_unigram_counts(reports, tokenizer))
    return _summarize(TokenStore.open(output_dir), reused=False)


@dataclass(frozen=True)
class _Identity:
    """What a store is made from: equal fingerprints give equal bytes."""

    settings: Mapping[str, Any]
    source_fingerprint: str
    source_files: int
    fingerprint: str


def _identify(source: Corpus, config: DataConfig, given: LoadedTokenizer | None) -> _Identity:
    execution = {name for name, field in DataConfig.model_fields.items() if field.json_schema_extra == EXECUTION}
    settings = config.model_dump(mode="json", exclude=execution)
    if given:
        # An existing tokenizer goes by its content, not by where it lies.
        settings["tokenizer"] = {"given": given.vocabulary.hash}
    source_fingerprint = source.fingerprint()
    parts = json.dumps([FORMAT_VERSION, source_fingerprint, settings], sort_keys=True)
    return _Identity(settings, source_fingerprint, len(source.files), xxhash.xxh3_128_hexdigest(parts.encode()))


def reading_options(config: DataConfig) -> ReadingOptions:
    """How a corpus is read, as the `data` section says."""
    return ReadingOptions(**{field.name: getattr(config, field.name) for field in fields(ReadingOptions)})


def _wordpiece_options(config: DataConfig) -> WordPieceOptions:
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
    if not survey.documents:
        found = [survey.notes.dropped.sentence(reason) for reason in survey.notes.dropped.as_dict()]
        raise CorpusError(f"there is no usable document in {source.location!r}: {'; '.join(found) or 'it has no rows'}")
    survey.report()
    if needs_pairs and survey.documents - len(survey.heldout) < LEAST_TRAINING_DOCUMENTS:
        raise CorpusError(
            f"{source.location!r} is one document, and a random next sentence must come from another one: cut it with "
            "data.document=blank-line or data.document=heading:REGEX, or train without pairs (pairs.next_sentence=off)"
        )
    return survey


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
                options = _wordpiece_options(config)
                save_tokenizer(train_wordpiece(heard, options, characters=survey.characters), aside, options)
    return load_tokenizer(folder)


def _heard(texts: Iterator[str], on_chars: Callable[[int], None]) -> Iterator[str]:
    chars = 0
    for text in texts:
        yield text
        chars += len(text)
        on_chars(chars)


def _check_fit(tokenizer: LoadedTokenizer, survey: Survey) -> VocabularyFit:
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
) -> list[ShardReport]:
    """Encode every document in processes; which document lies where depends on the corpus alone."""
    options = EncodingOptions(
        tokenizer_file=str(output_dir / TOKENIZER_FOLDER / "tokenizer.json"),
        tokenizer_hash=tokenizer.vocabulary.hash,
        vocab_size=tokenizer.vocabulary.size,
        language=config.language,
        word_segmenter=config.word_segmenter,
    )

    def split_of(document: RawDocument) -> str:
        return "heldout" if survey.is_heldout(document) else "train"

    works = cut_shards(source.documents(), split_of=split_of, shard_chars=SHARD_CHARS)
    num_workers = config.num_workers or usable_cores()
    if survey.chars < LEAST_SHARDS_FOR_PROCESSES * SHARD_CHARS:
        num_workers = 1
    done, reports = 0, []
    progress("encoding", done, survey.chars)
    work = partial(make_shard, folder=output_dir / SHARD_FOLDER, options=options)
    for report in ordered_map(work, works, num_workers=num_workers):
        done += report.chars
        progress("encoding", done, survey.chars)
        reports.append(report)
    return reports


def _describe(
    identity: _Identity,
    survey: Survey,
    tokenizer: LoadedTokenizer,
    reports: Sequence[ShardReport],
    *,
    fit: VocabularyFit,
) -> Manifest:
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


def _unigram_counts(reports: Iterable[ShardReport], tokenizer: LoadedTokenizer) -> IntArray:
    zeros = np.zeros(tokenizer.vocabulary.size, dtype=np.int64)
    return sum((report.id_counts for report in reports if report.split == "train"), start=zeros)


def _summarize(store: TokenStore, *, reused: bool) -> PrepareSummary:
    train, heldout = store.split("train"), store.split("heldout")
    return PrepareSummary(
        output_dir=store.path,
        reused=reused,
        documents=train.num_documents,
        heldout_documents=heldout.num_documents,
        sentences=train.num_sentences,
        tokens=train.num_tokens,
        vocab_size=store.manifest.vocab_size,
        unknown_share=store.manifest.unknown_share,
        dropped=store.manifest.dropped,
    )
