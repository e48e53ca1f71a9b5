"""A corpus of any size becomes a token store: read once, counted, and encoded by tasks that any machine may run.

The text is read and filtered once and kept compressed; two passes over that follow, one that counts and one that
encodes. In between one process decides, from 16 bytes a document. What comes out is the store that `bertkit prepare`
makes without an executor, byte for byte, unless filters or MinHash are asked for.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Final

import xxhash

from bertkit.config.data import DataConfig
from bertkit.data import dropped as reasons
from bertkit.data.any_folder import AnyFolder
from bertkit.data.corpus import Corpus, ReadingNotes, fingerprint_of, open_corpus
from bertkit.data.dropped import Dropped
from bertkit.data.folders import full_disk_named, make_folder
from bertkit.data.manifest import FORMAT_VERSION
from bertkit.data.partition import cut_corpus, listing_hash, part_bytes
from bertkit.data.pool import main_module_hidden, usable_cores
from bertkit.data.shard_plan import DROPPED, Choice, Documents, PlannedShard, choose_documents, plan_shards, split_parts
from bertkit.data.spill import read_index
from bertkit.data.store import TOKENIZER_FOLDER
from bertkit.data.store_writer import WORK_FOLDER
from bertkit.data.survey import Survey, SurveyCounts
from bertkit.data.tokenizer import LoadedTokenizer, load_tokenizer, save_tokenizer, train_from_counts
from bertkit.data.word_counts import merge_counts
from bertkit.errors import ConfigError, redacted
from bertkit.lock import FolderLock
from bertkit.workflows import prepare as single
from bertkit.workflows.prepare import PrepareSummary, Progress
from bertkit.workflows.prepare_cluster import ExecutorName, minhash, steps
from bertkit.workflows.prepare_cluster import output as outputs
from bertkit.workflows.prepare_cluster.executors import Machines, Stage, ray_started, run_stage
from bertkit.workflows.prepare_cluster.filters import build_filters

BYTES_A_MB: Final = 1_000_000


def run_preparation(
    corpus: str,
    output_dir: Path | str,
    config: DataConfig,
    *,
    executor: ExecutorName,
    needs_pairs: bool = True,
    on_progress: Progress | None = None,
) -> PrepareSummary:
    """Make the token store of a corpus by tasks, continue an interrupted one, or recognise a complete one.

    Raises CorpusError or ConfigError when the corpus, the settings, the machines or the folder cannot be used.
    """
    source = open_corpus(corpus, single.reading_options(config))
    job = _Job(source, config, AnyFolder(_absolute(str(output_dir))), executor, on_progress or (lambda *_: None))
    identify = cache(lambda: job.identify(source.fingerprint()))
    complete = outputs.complete_manifest(job.output, identify)
    if complete and outputs.begun_mark(job.output) is None:
        return single.summarize(redacted(str(output_dir)), complete, reused=True)
    with job.claimed():
        # Another process may have made it since; or one that made it was killed before it had tidied up.
        if complete := outputs.complete_manifest(job.output, identify):
            if begun := outputs.begun_mark(job.output):
                outputs.delete_leftovers(job.output, job.work_of(begun))
            return single.summarize(redacted(str(output_dir)), complete, reused=True)
        outputs.begin_output(job.output, job.work_of, mark=job.mark)
        choice, notes = job.read()
        survey = job.survey(choice, notes)
        single.check_survey(survey, source.location, needs_pairs=needs_pairs)
        tokenizer = job.tokenizer(survey)
        fit = single.check_fit(tokenizer, survey)
        encoded = job.encode(choice, tokenizer)
        identity = job.identify(job.source_fingerprint())
        manifest = single.describe(identity, survey, tokenizer, encoded.reports, fit=fit)
        outputs.finish_output(job.output, job.work, manifest, unigram_counts=encoded.unigram_counts)
    return single.summarize(redacted(str(output_dir)), manifest, reused=False)


class _Job:
    """One preparation: its parts never depend on who works on them."""

    def __init__(
        self, source: Corpus, config: DataConfig, output: AnyFolder, executor: ExecutorName, progress: Progress
    ) -> None:
        cluster = config.cluster
        if config.drop_duplicate_lines:
            raise ConfigError(
                "data.drop_duplicate_lines needs one process that sees every line: set it to false "
                "(data.cluster.minhash drops near-duplicates instead), or leave out --executor"
            )
        self.filters = build_filters(cluster.filters)
        self.source, self.config, self.output, self.progress = source, config, output, progress
        self.given = load_tokenizer(config.tokenizer.path) if config.tokenizer.path else None
        self.settings = single.settings_of(config, self.given)
        self.parts = cut_corpus(source, part_bytes=cluster.task_mb * BYTES_A_MB)
        self.machines = Machines(
            executor, config.num_workers or (usable_cores() if executor == "local" else -1), cluster
        )
        begun = json.dumps([FORMAT_VERSION, self.settings, listing_hash(source), cluster.task_mb], sort_keys=True)
        self.mark = xxhash.xxh3_128_hexdigest(begun.encode())
        self.shared = AnyFolder(_absolute(cluster.work_dir)) if cluster.work_dir else None
        self.work = self.work_of(self.mark)

    def work_of(self, mark: str) -> AnyFolder:
        """Where what is made in between lies, of the preparation of this mark."""
        return self.shared.below(f"bertkit-{mark}") if self.shared else self.output.below(WORK_FOLDER)

    def identify(self, source_fingerprint: str) -> single.Identity:
        """What the store is made from."""
        return single.identify(self.settings, source_fingerprint, source_files=len(self.source.files))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes of this machine away, and say what the disk or Ray says against it."""
        folder = self.output.path
        if folder is not None:
            make_folder(folder)
        if self.shared:
            self.shared.make()
        with (
            full_disk_named(folder) if folder is not None else nullcontext(),
            FolderLock(folder) if folder is not None else nullcontext(),
            ray_started(self.machines),
        ):
            yield

    def read(self) -> tuple[Choice, ReadingNotes]:
        """First pass: read and filter every document once; then decide which stay, and which are held out."""
        spill = steps.SpillDocuments(self.work, sentences=self.config.sentences)
        pipeline = [steps.CorpusReader(self.parts, self.work), *self.filters, spill]
        weights = [part_bytes(part) for part in self.parts]
        if self.config.cluster.minhash:
            pipeline.append(minhash.signature_step(self.work))
        self._run(Stage("read", "reading the corpus", pipeline, weights))
        for stage in minhash.stages(self.work) if self.config.cluster.minhash else ():
            self._run(stage)
        documents = self._documents()
        removed = (minhash.removed_rows(self.work, part) for part in range(len(self.parts)))
        choice = choose_documents(documents, removed, heldout_share=self.config.heldout_share)
        for part, fates in enumerate(split_parts(choice.fates, documents)):
            self.work.write_arrays(steps.fates_of(part), fates=fates)
        return choice, self._notes(choice)

    def survey(self, choice: Choice, notes: ReadingNotes) -> Survey:
        """Second pass: count what the documents that stay hold, and the words of those to train on."""
        fates = (self.work.read_arrays(steps.fates_of(part))["fates"] for part in range(len(self.parts)))
        utf8_bytes = sum(
            int(read_index(self.work, part).bytes[fate != DROPPED].sum()) for part, fate in enumerate(fates)
        )
        step = steps.CountDocuments(
            self.work,
            training_share=self.config.tokenizer.max_training_mb * 1_000_000 / max(utf8_bytes, 1),
            options=None if self.given else single.wordpiece_options(self.config),
        )
        self._run(Stage("count", "counting words", [step], [part_bytes(part) for part in self.parts]))
        counts = SurveyCounts()
        for part in range(len(self.parts)):
            counts.merge(self.work.read_arrays(steps.survey_of(part)))
        return counts.surveyed(notes, choice.heldout)

    def tokenizer(self, survey: Survey) -> LoadedTokenizer:
        """Put the given or a newly trained tokenizer into the store."""
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / TOKENIZER_FOLDER
            if self.given:
                self.given.pretrained.save_pretrained(made)
            else:
                self._train(survey, made)
            for file in sorted(made.iterdir()):
                self.output.put(file, f"{TOKENIZER_FOLDER}/{file.name}")
            return load_tokenizer(made)

    def encode(self, choice: Choice, tokenizer: LoadedTokenizer) -> single.Encoded:
        """Third pass: every shard is made of its documents, wherever they lie."""
        shards = list(plan_shards(choice.fates, self._documents(), shard_chars=single.SHARD_CHARS))
        a_task = max(self.config.cluster.task_mb * BYTES_A_MB // single.SHARD_CHARS, 1)
        tasks = [shards[first : first + a_task] for first in range(0, len(shards), a_task)]
        options = single.encoding_options(self.config, tokenizer, folder=Path())
        step = steps.MakeShards(self.work, self.output, tasks, options)
        self._run(Stage("encode", "encoding", [step], [_chars(task) for task in tasks]))
        return steps.read_reports(self.work, len(tasks), vocab_size=tokenizer.vocabulary.size)

    def source_fingerprint(self) -> str:
        """The fingerprint of the corpus, from what tasks hashed."""
        hashes = [content for part in range(len(self.parts)) for content in self._note(part)["hashes"]]
        return fingerprint_of(self.source, hashes)

    def _documents(self) -> Documents:
        return Documents.of(read_index(self.work, part) for part in range(len(self.parts)))

    def _run(self, stage: Stage) -> None:
        # The executor's processes are not to run the user's script again.
        with main_module_hidden():
            run_stage(stage, self.machines, logs=self.work.below("logs"), on_progress=self.progress)

    def _train(self, survey: Survey, folder: Path) -> None:
        options = single.wordpiece_options(self.config)
        with tempfile.TemporaryDirectory() as local:
            files = [Path(local) / steps.words_of(part) for part in range(len(self.parts))]
            for file in files:
                self.work.fetch(file.name, file)
            counts = merge_counts(files, folder=Path(local))
            save_tokenizer(train_from_counts(counts, options, characters=survey.characters), folder, options)

    def _notes(self, choice: Choice) -> ReadingNotes:
        notes = ReadingNotes()
        notes.dropped.merge(self.source.unsupported)
        read = 0
        for values in map(self._note, range(len(self.parts))):
            notes.dropped.merge(Dropped(Counter(values["counts"]), values["examples"]))
            notes.decisions.update(values["decisions"])
            read += values["documents"]
        notes.dropped.add(reasons.FILTERED, count=read - len(choice.fates))
        notes.dropped.add(reasons.NEAR_DUPLICATE, count=choice.near_duplicates)
        notes.dropped.add(reasons.DUPLICATE, count=choice.duplicates)
        return notes

    def _note(self, part: int) -> dict[str, Any]:
        values: dict[str, Any] = self.work.read_json(steps.notes_of(part))
        return values


def _chars(shards: Sequence[PlannedShard]) -> int:
    return sum(shard.chars for shard in shards)


def _absolute(location: str) -> str:
    """A local path as machines with other working folders understand it."""
    return location if "://" in location else str(Path(location).resolve())
