"""The health of a run that lies on disk."""

import json
from typing import Any

import numpy as np

from bertkit.config.schema import PretrainConfig
from bertkit.data.store import TokenStore
from bertkit.errors import CorpusError
from bertkit.train.tracking import numbers_of, read_metrics
from bertkit.workflows.health.bands import FIGURES, BandPoint, bands
from bertkit.workflows.health.symptoms import Finding, HealthWatch, Reference
from bertkit.workflows.pinned import open_pinned_store
from bertkit.workflows.runs import RunFolder


def reference_of(store: TokenStore, config: PretrainConfig) -> Reference:
    """What a run of `config` on `store` is judged by."""
    return Reference(
        num_parameters=encoder_parameters(config.model),
        unigram_entropy=unigram_entropy(store),
        from_scratch=config.train.init_from is None,
        unknown_share=store.manifest.unknown_share,
        duplicate_line_share=store.manifest.duplicate_line_share,
        next_sentence=config.pairs.next_sentence == "nsp",
    )


def encoder_parameters(architecture: Any) -> int:
    """Weights of the matrices in the layers of a BERT of this shape."""
    width, inner = architecture.hidden_size, architecture.intermediate_size
    return int(architecture.num_hidden_layers * (4 * width * width + 2 * width * inner))


def unigram_entropy(store: TokenStore) -> float:
    """Entropy of the training text's word frequencies, in nats a token."""
    counts = store.unigram_counts[store.unigram_counts > 0].astype(np.float64)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def findings(run: RunFolder) -> list[Finding]:
    """What a run's log and store give reason to look at, in the order of its steps.

    Raises:
        CheckpointError: the folder holds no pre-training run that has begun, or another store than it began with.
    """
    watch = HealthWatch(_reference(run))
    return [*watch.of_corpus(), *(found for row in _rows(run) for found in watch.add(row))]


def bands_of(run: RunFolder) -> dict[str, list[BandPoint]]:
    """The reference band of every figure, one point a row of the run's log; none for a run from a trained model.

    Raises:
        CheckpointError: the folder holds no pre-training run that has begun, or another store than it began with.
    """
    reference = _reference(run)
    if not reference.from_scratch or reference.unigram_entropy is None:
        return {}
    rows = [row for row in _rows(run) if "mlm_loss" in row and "tokens" in row]
    steps, tokens = [row["step"] for row in rows], [row["tokens"] for row in rows]
    return {
        figure: bands(
            figure,
            num_parameters=reference.num_parameters,
            unigram_entropy=reference.unigram_entropy,
            steps=steps,
            tokens=tokens,
        )
        for figure in FIGURES
        if reference.judges(figure) and any(figure in row for row in rows)
    }


def _reference(run: RunFolder) -> Reference:
    config = run.read_config(PretrainConfig)
    try:
        return reference_of(open_pinned_store(config, run), config)
    except CorpusError:
        # A store may be gone when its run is looked at; held-out scores tell of its words too.
        entropies = [row["heldout_unigram_entropy"] for row in _rows(run) if "heldout_unigram_entropy" in row]
        return Reference(
            encoder_parameters(config.model),
            _entropy_of_results(run, entropies),
            from_scratch=config.train.init_from is None,
            next_sentence=config.pairs.next_sentence == "nsp",
        )


def _entropy_of_results(run: RunFolder, logged: list[float]) -> float | None:
    try:
        return float(json.loads(run.results_file.read_text(encoding="utf-8"))["heldout"]["unigram_entropy"])
    except (OSError, ValueError, KeyError, TypeError):
        return logged[-1] if logged else None


def _rows(run: RunFolder) -> list[dict[str, Any]]:
    return list(map(numbers_of, read_metrics(run.metrics_file))) if run.metrics_file.is_file() else []
