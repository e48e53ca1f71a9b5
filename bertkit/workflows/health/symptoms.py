"""What goes wrong in pre-training, told from its log rows as they come: each symptom once, in words, with a remedy."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from bertkit.workflows.health.bands import BandPoint, bands, usual_learning_rate

# Rows of a log are means over a few steps: a symptom must last so long before it is told.
ROWS_TO_LAST: Final = 5
STEPS_TO_LAST: Final = 100
# Nats by which a loss may rise above the best so far; natural wandering stays far below.
RISE: Final = 0.5
# Shares of the unigram entropy.
WORSE_THAN_WORDS: Final = 1.05
PLATEAU: Final = 0.95
FAR_FROM_USUAL: Final = 8
HELDOUT_RISE: Final = 0.1
HELDOUT_EVALUATIONS: Final = 3
SLOW_SHARE: Final = 0.5
ROWS_OF_PACE: Final = 20
NOTICEABLE_UNKNOWN: Final = 0.01
NOTICEABLE_DUPLICATES: Final = 0.1
# The losses of words a run may log, and what they are called: of masked ones, or of those that are yet to come.
_LOSSES: Final = {"mlm_loss": "masked LM loss", "lm_loss": "LM loss"}


@dataclass(frozen=True)
class Finding:
    """Something to look at: its kind, the step it was noticed at, and a sentence with a remedy."""

    kind: str
    step: int
    text: str


@dataclass(frozen=True)
class Reference:
    """What a run's figures are judged by; without a unigram entropy (nats) there are no bands for its loss.

    A run that goes on from a trained model has none either, nor has one that learns words that are yet to come, nor
    have figures of the order of sentences (`next_sentence` is False): healthy runs of these have not been measured.
    """

    num_parameters: int
    unigram_entropy: float | None
    from_scratch: bool = True
    unknown_share: float = 0.0
    duplicate_line_share: float = 0.0
    next_sentence: bool = True

    def judges(self, figure: str) -> bool:
        """Whether there is a band for the figure at all."""
        return figure != "nsp_accuracy" or self.next_sentence

    def band(self, figure: str, row: Mapping[str, Any]) -> BandPoint | None:
        """The band of a figure at a row of the log."""
        if not self.from_scratch or self.unigram_entropy is None or "mlm_loss" not in row or not self.judges(figure):
            return None
        points = bands(
            figure,
            num_parameters=self.num_parameters,
            unigram_entropy=self.unigram_entropy,
            steps=[row["step"]],
            tokens=[row["tokens"]],
        )
        return points[0] if points else None


@dataclass
class HealthWatch:
    """Takes the rows of a run's log in order and says what is new to say."""

    reference: Reference
    _recent: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=ROWS_TO_LAST))
    _best: tuple[float, int] | None = None
    _peak_rate: float = 0.0
    _paces: deque[float] = field(default_factory=lambda: deque(maxlen=ROWS_OF_PACE))
    _heldout: list[float] = field(default_factory=list)
    _since: dict[str, int] = field(default_factory=dict)
    _rows_with: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def of_corpus(self) -> list[Finding]:
        """What the text itself gives reason to look at, before the first step."""
        found, reference = [], self.reference
        if reference.unknown_share > NOTICEABLE_UNKNOWN:
            found.append(
                f"{reference.unknown_share:.1%} of the tokens are [UNK]: the vocabulary is not this text's; train one "
                "on it (leave data.tokenizer.path out), or look for a wrong data.encoding"
            )
        if reference.duplicate_line_share > NOTICEABLE_DUPLICATES:
            found.append(
                f"{reference.duplicate_line_share:.0%} of the lines are copies of an earlier one, and will be learned "
                "by heart: set data.drop_duplicate_lines=true"
            )
        return [Finding("corpus", 0, text) for text in found]

    def add(self, row: Mapping[str, Any]) -> list[Finding]:
        """What is new after one more row."""
        found = self._heldout_rises(row) if _loss_of(row, "heldout_") else {}
        # A log that was edited or cut short may lack a figure.
        if _loss_of(row) and all(name in row for name in ("tokens", "learning_rate", "tokens_per_s")):
            self._recent.append(row)
            self._peak_rate = max(self._peak_rate, row["learning_rate"])
            # Symptoms of training neither begin nor end with a row of evaluation.
            found |= self._training_symptoms(row)
            self._forget([kind for kind in self._since if kind not in found and kind != "overfitting"])
        return [
            Finding(kind, row["step"], text)
            for kind, text in found.items()
            if kind not in self._told and self._lasts(kind, row["step"])
        ]

    def _training_symptoms(self, row: Mapping[str, Any]) -> dict[str, str]:
        loss = median(each[_loss_of(each)] for each in self._recent)
        found = (
            self._loss_rises(row, loss) or self._loss_is_out_of_band(row, loss) or self._accuracy_is_out_of_band(row)
        )
        return found | self._nsp_is_out_of_band(row) | self._is_slow(row)

    def _loss_rises(self, row: Mapping[str, Any], loss: float) -> dict[str, str]:
        if self._best is None or loss < self._best[0]:
            self._best = (loss, row["step"])
        best, at = self._best
        if loss < best + RISE:
            return {}
        return {
            "diverging": f"the {_LOSSES[_loss_of(row)]} has risen to {loss:.2f} from {best:.2f} at step {at:,}: "
            "the learning rate is probably too high, or its warm-up too short; lower optim.learning_rate "
            f"({self._peak_rate:.1e} at most so far), or lengthen optim.warmup_steps"
        }

    def _loss_is_out_of_band(self, row: Mapping[str, Any], loss: float) -> dict[str, str]:
        band, entropy = self.reference.band("mlm_loss", row), self.reference.unigram_entropy
        if band is None or entropy is None or band.low <= loss <= band.high:
            return {}
        reached = f"the masked LM loss is {loss:.2f} after {row['step']:,} steps"
        if loss < band.low:
            return {
                "too_easy": f"{reached}, below the {band.low:.2f} at least of runs of this size: {self._why_easy()}; "
                "trust the held-out loss only"
            }
        above = f"{reached}, above the {band.high:.2f} at most of runs of this size"
        if loss > WORSE_THAN_WORDS * entropy:
            remedy = self._rate() or "there were too few steps: take more and smaller batches, or a shorter warm-up"
            return {"above": f"{above}, and worse than word frequencies alone ({entropy:.2f}): {remedy}"}
        if loss > PLATEAU * entropy:
            remedy = self._rate() or "take more and smaller batches, begin with shorter sequences, or be patient"
            return {
                "plateau": f"{above}: it stays near word frequencies alone ({entropy:.2f}), so context is not used "
                f"yet; {remedy}"
            }
        remedy = self._rate() or "the text may be hard or mixed, or dropout too high for so little of it"
        return {"slow": f"{above}: {remedy}"}

    def _why_easy(self) -> str:
        copies = self.reference.duplicate_line_share
        if copies > NOTICEABLE_DUPLICATES:
            return f"{copies:.0%} of the text's lines are copies, and learned by heart: data.drop_duplicate_lines=true"
        return "the text may be of one pattern (logs, tables, code), or hold near copies (data.cluster.minhash)"

    def _rate(self) -> str | None:
        """What is wrong with the learning rate, if it is far from what recipes of this size take."""
        usual = usual_learning_rate(self.reference.num_parameters)
        reached = f"the learning rate reached {self._peak_rate:.1e}, where runs of this size take about {usual:.0e}"
        if self._peak_rate > FAR_FROM_USUAL * usual:
            return f"{reached}: lower optim.learning_rate"
        if self._peak_rate < usual / FAR_FROM_USUAL:
            return f"{reached}: raise optim.learning_rate, or shorten optim.warmup_steps"
        return None

    def _accuracy_is_out_of_band(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Of a run whose loss is as it should be: few words are right although the right ones are thought likely."""
        band = self.reference.band("mlm_accuracy", row) if "mlm_accuracy" in row else None
        if band is None:
            return {}
        accuracy = median(each.get("mlm_accuracy", 0.0) for each in self._recent)
        if band.low <= accuracy <= band.high:
            return {}
        side, edge = (
            ("below", f"{band.low:.1%} at least") if accuracy < band.low else ("above", f"{band.high:.1%} at most")
        )
        return {
            f"accuracy_{side}": f"masked LM accuracy is {accuracy:.1%} after {row['step']:,} steps, {side} the {edge} "
            "of runs of this size, though the loss is where theirs is: look at what the model predicts (bertkit report)"
        }

    def _nsp_is_out_of_band(self, row: Mapping[str, Any]) -> dict[str, str]:
        band = self.reference.band("nsp_accuracy", row) if "nsp_accuracy" in row else None
        if band is None:
            return {}
        accuracy = median(each.get("nsp_accuracy", 0.5) for each in self._recent)
        if accuracy > band.high:
            return {
                "nsp_too_easy": f"next sentence accuracy is {accuracy:.1%} after {row['step']:,} steps, above the "
                f"{band.high:.1%} at most of runs of this size: something other than meaning gives pairs away, such as "
                "documents in several languages, formats or subjects, or sentences that repeat within a document"
            }
        if accuracy < band.low:
            return {
                "nsp_at_chance": f"next sentence accuracy is {accuracy:.1%} after {row['step']:,} steps, below the "
                f"{band.low:.1%} at least of runs of this size: sentences that follow may not belong together (look at "
                "data.document and data.sentences: shuffled lines, lists, tables)"
            }
        return {}

    def _is_slow(self, row: Mapping[str, Any]) -> dict[str, str]:
        pace = row["tokens_per_s"]
        usual = median(self._paces) if len(self._paces) == ROWS_OF_PACE else 0.0
        if pace >= SLOW_SHARE * usual:
            self._paces.append(pace)
            return {}
        return {
            "slowed_down": f"{pace:,.0f} tokens/s, where the run had {usual:,.0f}: look for another program on this "
            "machine, a throttled device, or a slow disk under the token store"
        }

    def _heldout_rises(self, row: Mapping[str, Any]) -> dict[str, str]:
        name = _loss_of(row, "heldout_")
        self._heldout.append(row[f"heldout_{name}"])
        best = min(self._heldout)
        last = self._heldout[-HELDOUT_EVALUATIONS:]
        if len(last) < HELDOUT_EVALUATIONS or min(last) < best + HELDOUT_RISE:
            self._forget(["overfitting"])
            return {}
        return {
            "overfitting": f"the held-out {_LOSSES[name]} is {last[-1]:.2f}, up from {best:.2f}, while training goes "
            "on: the text is being learned by heart; stop here, add text, or take a smaller model or more dropout"
        }

    def _lasts(self, kind: str, step: int) -> bool:
        """Counts a row with the symptom; whether there have been enough of them in a row."""
        since = self._since.setdefault(kind, step)
        self._rows_with[kind] = self._rows_with.get(kind, 0) + 1
        is_brief = self._rows_with[kind] < ROWS_TO_LAST or step - since < STEPS_TO_LAST
        if is_brief and kind != "overfitting":  # which has lasted for several evaluations
            return False
        self._told.add(kind)
        return True

    def _forget(self, kinds: list[str]) -> None:
        """What is over may be told again if it comes back."""
        for kind in kinds:
            self._since.pop(kind, None)
            self._rows_with.pop(kind, None)
            self._told.discard(kind)


def _loss_of(row: Mapping[str, Any], before: str = "") -> str:
    """The name of the loss of words that a row has, with or without something before it; empty for none."""
    return next((name for name in _LOSSES if f"{before}{name}" in row), "")
