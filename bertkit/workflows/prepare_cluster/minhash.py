"""Near-duplicates by datatrove's MinHash: signatures while documents are read, then buckets, then clusters."""

import logging
from typing import Final

import numpy as np
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WordTokenizer
from tokenizers import pre_tokenizers

from bertkit.data.any_folder import AnyFolder
from bertkit.data.encode import IntArray
from bertkit.workflows.prepare_cluster.executors import Stage

logger = logging.getLogger(__name__)

# datatrove's other hash function takes text, which xxhash does no more since version 4.
CONFIG: Final = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))
SIGNATURES: Final = "signatures"
PAIRS: Final = "pairs"
REMOVED: Final = "removed"


class Words(WordTokenizer):
    """Words as BERT cuts them, in any language and without a further package."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]

    def sent_tokenize(self, text: str) -> list[str]:
        """The whole text: MinHash asks for words only."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where the whole text begins and ends."""
        return [(0, len(text))]


def signature_step(work: AnyFolder) -> PipelineStep:
    """The first of the four stages: it follows the step that keeps documents, so rows are numbered alike."""
    return MinhashDedupSignature(work.below(SIGNATURES).url, config=CONFIG, language=Words())


def stages(work: AnyFolder) -> tuple[Stage, Stage]:
    """The second and third: pairs of like documents, and which of each cluster go."""
    buckets = MinhashDedupBuckets(work.below(SIGNATURES).url, work.below(PAIRS).url, config=CONFIG)
    cluster = MinhashDedupCluster(work.below(PAIRS).url, work.below(REMOVED).url, config=CONFIG)
    said = "finding near-duplicates"
    return Stage(PAIRS, said, [buckets], [1] * CONFIG.num_buckets), Stage(REMOVED, said, [cluster], [1])


def removed_rows(work: AnyFolder, part: int) -> IntArray:
    """Rows of a part that are nearly the same as another document that stays: what the fourth stage would drop."""
    removed = work.below(REMOVED)
    name = f"{part:06d}.remove"
    content = removed.read(name) if removed.exists(name) else b""
    return np.frombuffer(content, dtype="<u4").astype(np.int64)
