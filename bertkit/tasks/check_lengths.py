"""How long examples are in tokens, and how many are longer than a model reads at once.

Letters: E examples.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bertkit.data.features import Array
from bertkit.data.texts import TextEncoder
from bertkit.tasks.findings import Finding, Lengths, Severity, count_in_words, found
from bertkit.tasks.spec import Example, ProblemName

# Encoded at a time, so that a large file's ids are never all in memory.
EXAMPLES_AT_ONCE: Final = 2048
PERCENTILES: Final = (50, 90, 95, 99)
NUM_BINS: Final = 12
BARS: Final = "▁▂▃▄▅▆▇█"
LONGEST_INPUT: Final = 512
# A smaller share that is cut is not worth a warning.
WORTH_A_WARNING: Final = 0.01
IN_WINDOWS: Final = ("tagging", "span_qa")


def measure(examples: Sequence[Example], problem: ProblemName, encoder: TextEncoder, *, max_seq_length: int) -> Lengths:
    """The lengths of all examples; of one with choices, that of the longest with the context."""
    lengths_E = np.concatenate(
        [
            _lengths(examples[start : start + EXAMPLES_AT_ONCE], problem, encoder)
            for start in range(0, len(examples), EXAMPLES_AT_ONCE)
        ]
    )
    percentiles = np.percentile(lengths_E, PERCENTILES, method="inverted_cdf")
    bins, _ = np.histogram(lengths_E, bins=NUM_BINS, range=(0, int(lengths_E.max()) + 1))
    return Lengths(
        percentiles={name: int(value) for name, value in zip(PERCENTILES, percentiles, strict=True)},
        longest=int(lengths_E.max()),
        bins=tuple(map(int, bins)),
        num_longer=int((lengths_E > max_seq_length).sum()),
        num_examples=len(lengths_E),
    )


def check_lengths(lengths: Lengths, problem: ProblemName, *, max_seq_length: int) -> Iterator[Finding]:
    """The histogram, and the share that is longer than `max_seq_length`."""
    parts = [f"{name} % up to {value}" for name, value in lengths.percentiles.items()]
    yield found(
        "note", f"tokens of an example of train: {', '.join(parts)}, longest {lengths.longest} [{_histogram(lengths)}]"
    )
    if not lengths.num_longer:
        return
    share = lengths.num_longer / lengths.num_examples
    longer = (
        f"{count_in_words(lengths.num_longer, lengths.num_examples, 'example')} of train ({100 * share:.1f} %) "
        f"are longer than max_seq_length {max_seq_length}"
    )
    if problem in IN_WINDOWS:
        yield found("note", f"{longer} and are read in overlapping windows, so nothing is lost")
    else:
        severity: Severity = "warning" if share >= WORTH_A_WARNING else "note"
        yield found(severity, f"{longer} and lose what is beyond it", remedy=_remedy(lengths, max_seq_length))


def _remedy(lengths: Lengths, max_seq_length: int) -> str:
    enough = lengths.percentiles[99]
    if enough > LONGEST_INPUT:
        return f"99 % would need {enough} tokens, more than the {LONGEST_INPUT} of BERT: set task.long_inputs=windows"
    if enough <= max_seq_length:
        return f"99 % have all they need; task.max_seq_length={min(lengths.longest, LONGEST_INPUT)} would cut fewer"
    return f"task.max_seq_length={enough} would hold 99 %"


def _histogram(lengths: Lengths) -> str:
    most = max(lengths.bins)
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // most)] if count else " " for count in lengths.bins)
    return f"0 {bars} {lengths.longest}"


def _lengths(examples: Sequence[Example], problem: ProblemName, encoder: TextEncoder) -> Array:
    pieces = iter(encoder.encode([text for example in examples for text in example.texts]))
    counts = [[len(next(pieces)) for _ in example.texts] for example in examples]
    return np.array([_input_length(sizes, problem) for sizes in counts], np.int64)


def _input_length(sizes: Sequence[int], problem: ProblemName) -> int:
    """Tokens of [CLS] A [SEP] or [CLS] A [SEP] B [SEP]."""
    if problem == "tagging" or len(sizes) < 2:
        return sum(sizes) + 2
    if problem == "multiple_choice":
        return sizes[0] + max(sizes[1:]) + 3
    return sum(sizes) + 3
