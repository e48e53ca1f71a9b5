"""What a token store is made from: everything `bertkit prepare` needs."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bertkit.config.leaves import EXECUTION, PositiveInt, Section


class TokenizerConfig(Section):
    """The WordPiece vocabulary: trained on the corpus, or an existing one."""

    path: str | None = Field(None, description="Folder or Hub id of an existing tokenizer; null: train one.")
    vocab_size: PositiveInt = Field(30522, description="Entries to train, special tokens included.")
    lowercase: bool = Field(True, description="Lowercase the text (BERT's 'uncased').")
    strip_accents: bool | None = Field(None, description="Remove accents; null: exactly when lowercase is on.")
    split_chinese_chars: bool = Field(True, description="Put spaces around every CJK character.")
    min_frequency: PositiveInt = Field(
        2, description="Least number of times a piece must occur to enter the vocabulary."
    )
    max_training_mb: PositiveInt = Field(
        1024, description="Text the vocabulary is trained on at most, in MB, sampled evenly by document hash."
    )


class FilterConfig(Section):
    """One of datatrove's filters, formatters or extractors."""

    name: str = Field(description="Name of the class, such as RegexFilter; one that lacks a package names it.")
    arguments: dict[str, Any] = Field({}, description="Keyword arguments of the class.")


class SlurmConfig(Section):
    """What `bertkit prepare --executor slurm` asks of the scheduler."""

    partition: str = Field("", description="Partition; empty: the cluster's default.", json_schema_extra=EXECUTION)
    time: str = Field("24:00:00", description="Time limit of a task.", json_schema_extra=EXECUTION)
    qos: str = Field("", description="Quality of service; empty: the default.", json_schema_extra=EXECUTION)
    max_array_size: PositiveInt = Field(1001, description="Tasks in one job array.", json_schema_extra=EXECUTION)
    env_command: str | None = Field(
        None,
        description="Shell command before a task; null: puts this Python's folder on the PATH.",
        json_schema_extra=EXECUTION,
    )
    sbatch_args: dict[str, str] = Field(
        {}, description="Further options of sbatch, without dashes.", json_schema_extra=EXECUTION
    )


class ClusterConfig(Section):
    """How `bertkit prepare --executor` shares out the work; what comes out depends on filters and minhash only.

    With either, task_mb is part of what a store is made from: like documents of one task are told apart first.
    """

    filters: tuple[FilterConfig, ...] = Field(
        (), description="datatrove's filters, formatters and extractors that every document passes, in order."
    )
    minhash: bool = Field(False, description="Drop near-duplicates (datatrove's MinHash, 14 buckets of 8 hashes).")
    task_mb: PositiveInt = Field(
        256, description="Files of so many MB are one task; a file is never cut.", json_schema_extra=EXECUTION
    )
    task_memory_gb: Annotated[float, Field(gt=0)] = Field(
        2, description="Memory a task reserves on Ray and SLURM.", json_schema_extra=EXECUTION
    )
    work_dir: str | None = Field(
        None,
        description="Folder or URL all machines share, for what is made in between; null: inside the output.",
        json_schema_extra=EXECUTION,
    )
    ray_address: str | None = Field(
        None,
        description="Address of a Ray cluster; null: RAY_ADDRESS, or Ray on this machine.",
        json_schema_extra=EXECUTION,
    )
    slurm: SlurmConfig = SlurmConfig()


class DataConfig(Section):
    """What the token store is made from: everything ``bertkit prepare`` needs."""

    text_column: str = Field(
        "text", description="Column that holds the text in .jsonl, .csv, .parquet and Hub data sets."
    )
    document: str = Field(
        "auto",
        description=(
            "What a document is in a .txt file: 'file', 'blank-line', 'heading:REGEX' (a line that matches starts a "
            "document), or 'auto' (looks at every file, decides and says what it decided)."
        ),
    )
    sentences: Literal["auto", "line", "prose"] = Field(
        "auto", description="'line': one sentence a line, taken as given; 'prose': found by sentencex; 'auto' looks."
    )
    language: str = Field("en", description="Language code for sentence boundaries, as sentencex names it.")
    encoding: str = Field(
        "utf-8", description="Encoding of the text files; undecodable documents are counted and dropped."
    )
    drop_duplicate_lines: bool = Field(
        False, description="Drop lines of 20 or more characters that were already seen in the corpus."
    )
    max_document_chars: PositiveInt = Field(
        20_000_000, description="Longer documents are counted and dropped, which bounds memory."
    )
    heldout_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.05, description="Share of documents kept out of training, chosen by document hash."
    )
    word_segmenter: Literal["none", "jieba"] = Field(
        "none",
        description="Marks whole words of Chinese for masking.whole_word (pip install rjieba).",
    )
    tokenizer: TokenizerConfig = TokenizerConfig()
    cluster: ClusterConfig = ClusterConfig()
    num_workers: Annotated[int, Field(ge=0)] = Field(
        0, description="Processes that prepare; 0: one a core.", json_schema_extra=EXECUTION
    )
    cache_dir: str | None = Field(
        None,
        description="Folder for shards of a token store at a URL; null: 'bertkit' in the user's cache folder.",
        json_schema_extra=EXECUTION,
    )
    cache_gb: Annotated[float, Field(gt=0)] = Field(
        20, description="GB of shards kept there; the least recently used make room.", json_schema_extra=EXECUTION
    )
