"""The chapter of a pre-training run."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from bertkit.errors import BertkitError
from bertkit.workflows.figures import duration
from bertkit.workflows.health import Finding, bands_of, findings
from bertkit.workflows.objectives import TERM_TITLES
from bertkit.workflows.report.blocks import Block, Chapter, MaskedWords, Note, Row, Section, Tile, Tiles
from bertkit.workflows.report.curves import Logged, optimisation_charts, pretraining_charts
from bertkit.workflows.report.facts import amount, log_notes, settings_section, status_of
from bertkit.workflows.report.guessed_words import guessed_words
from bertkit.workflows.report.subjects import Subject, title_of_pairs
from bertkit.workflows.report.svg import picture

logger = logging.getLogger(__name__)

# By direction of the model.
_WORDS_TITLES: Final = {"bidirectional": "Masked words", "left-to-right": "Next words"}
_HOW_GUESSED: Final = {
    "bidirectional": "Every word was masked in turn, the rest of its sentence shown.",
    "left-to-right": "Every word was guessed from those before it in its sentence.",
}
_HOW_TO_READ: Final = (
    "The stronger the colour, the more of the probability it got. Point at one, or move to it with the arrow keys, for "
    "what the model thought of instead."
)


def pretraining_chapter(subject: Subject, salt: str) -> Chapter:
    """All that is known of a run of pre-training."""
    logged = Logged(subject.name, subject.history, _bands(subject))
    curves = [picture(chart, salt) for chart in pretraining_charts([logged], pairs=title_of_pairs([subject]))]
    optimisation = [picture(chart, salt) for chart in optimisation_charts([logged])]
    shown: list[Block] = [Row(curves)] if curves else [Note("The run has logged nothing yet.", "warning")]
    sections = [
        Section("Summary", [Tiles(_tiles(subject)), *_health(subject, logged), *log_notes(subject)]),
        *([] if subject.history.is_lost else [Section("Loss and accuracy", shown, _lead(logged))]),
        *([Section("Optimisation", [Row(optimisation, narrow=True)])] if optimisation else []),
        *_words(subject),
        settings_section(subject),
    ]
    return Chapter(subject.name, subject.name, f"Pre-training · {status_of(subject)}", sections)


def _lead(logged: Logged) -> str:
    shaded = " Shaded: where healthy runs of this size lie." if any(logged.bands.values()) else ""
    return f"Thin: means over the steps between two log lines. With dots: held-out text.{shaded}"


def _tiles(subject: Subject) -> list[Tile]:
    heldout: Mapping[str, Any] = subject.results.get("heldout", {})
    last = subject.history.training[-1] if subject.history.training else {}
    tiles = []
    for term, title in TERM_TITLES.items():
        if f"{term}_loss" in heldout:
            tiles += _tiles_of_words(heldout, term, title)
        elif f"{term}_loss" in last:
            loss = f"{last[f'{term}_loss']:.3f} nats"
            tiles.append(Tile(f"{title} loss, training", loss, "not scored on held-out text"))
    if "nsp_accuracy" in heldout:
        tiles.append(
            Tile(
                f"{title_of_pairs([subject]).capitalize()} accuracy, held-out",
                f"{100 * heldout['nsp_accuracy']:.1f} %",
                f"always the same answer: {100 * heldout['nsp_majority']:.1f} %",
            )
        )
    if last:
        rate = last["tokens"] / max(last["elapsed_s"], 1e-9)
        tiles.append(Tile("Tokens trained on", amount(last["tokens"]), f"{last['step']:,} steps"))
        tiles.append(Tile("Time", duration(last["elapsed_s"]), f"{amount(rate)} tokens a second"))
    return tiles


def _tiles_of_words(heldout: Mapping[str, Any], term: str, title: str) -> list[Tile]:
    return [
        Tile(
            f"{title} loss, held-out",
            f"{heldout[f'{term}_loss']:.3f} nats",
            f"word frequencies alone: {heldout['unigram_entropy']:.3f}",
        ),
        Tile(
            f"{title} accuracy, held-out",
            f"{100 * heldout[f'{term}_accuracy']:.1f} %",
            f"perplexity {heldout[f'{term}_perplexity']:,.1f}",
        ),
    ]


def _bands(subject: Subject) -> Mapping[str, Any]:
    try:
        return bands_of(subject.run)
    except BertkitError as error:
        logger.warning("no reference bands for %s: %s", subject.name, error)
        return {}


def _health(subject: Subject, logged: Logged) -> list[Block]:
    try:
        found = findings(subject.run)
    except BertkitError as error:
        return [Note(f"The health of the run cannot be told: {error}.", "warning")]
    if not found:
        # Where the log is lost, nothing could stand out.
        return [] if subject.history.is_lost else [_nothing_found(subject, logged)]
    return [Note(_said(each), "warning") for each in found]


def _nothing_found(subject: Subject, logged: Logged) -> Note:
    if any(logged.bands.values()):
        return Note("Nothing stands out: the run goes as healthy runs of its size do.", "good")
    if subject.history.training and "lm_loss" in subject.history.training[-1]:
        why = "there are reference bands for runs that learn masked words only"
    elif subject.config.get("train", {}).get("init_from") is not None:
        why = "there are no reference bands for a run that began with a trained model"
    else:
        why = "the run is too short, or too little is known of its words, to be held against healthy runs of its size"
    return Note(f"Nothing stands out, though {why}.")


def _said(finding: Finding) -> str:
    text = finding.text[:1].upper() + finding.text[1:]
    # What is noticed of the corpus is noticed before the first step.
    return f"{text} (noticed at step {finding.step:,})" if finding.step else text


def _words(subject: Subject) -> list[Section]:
    """Sentences and what the model thought of their words; nothing of a biLM."""
    try:
        guessed = guessed_words(subject.run)
    except (BertkitError, OSError) as error:
        return [Section("Guessed words", [Note(f"The model cannot be asked: {error}", "warning")])]
    if not guessed.sentences:
        return []
    title = _WORDS_TITLES[guessed.direction]
    ranks = [word.rank for sentence in guessed.sentences for word in sentence]
    first, among_five = (sum(rank <= least for rank in ranks) / len(ranks) for least in (1, 5))
    summary = (
        f" Of {len(ranks):,} words, the first guess is right for {100 * first:.0f} %, and the truth is among the first "
        f"five for {100 * among_five:.0f} %."
    )
    how = f"{_HOW_GUESSED[guessed.direction]} {_HOW_TO_READ}"
    return [Section(title, [MaskedWords(title, guessed.sentences, how + summary)])]
