"""What a report is made of: plain values that the templates know how to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Mark = Literal["", "gold", "predicted", "both"]
Cell: TypeAlias = "str | int | float | Number | None"


@dataclass(frozen=True)
class Number:
    """A figure as it is shown, and the value to sort by; `share` from 0 to 1 draws a bar behind it."""

    shown: str
    value: float
    share: float | None = None


@dataclass(frozen=True)
class Tile:
    """One figure that is worth a place at the top: what it is, its value, and what to hold it against."""

    title: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """A row of tiles."""

    tiles: Sequence[Tile]
    kind: str = "tiles"


@dataclass(frozen=True)
class Note:
    """A sentence; `tone` says how much it matters."""

    text: str
    tone: Literal["plain", "good", "warning"] = "plain"
    kind: str = "note"


@dataclass(frozen=True)
class Table:
    """Rows that a reader may sort by any column; more than `shown` of them scroll, and with 0 all are folded away."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    shown: int = 30
    kind: str = "table"

    def is_of_numbers(self, column: int) -> bool:
        """Whether a column holds numbers and nothing else but empty cells."""
        cells = [row[column] for row in self.rows if len(row) > column and row[column] is not None]
        return bool(cells) and all(isinstance(cell, int | float | Number) for cell in cells)


@dataclass(frozen=True)
class Picture:
    """A chart as SVG, one for each choice of the horizontal axis.

    hover: what the script reads values from, by axis. table: the same numbers for whoever cannot see the chart.
    """

    title: str
    svgs: Mapping[str, str]
    hover: str
    legend: Sequence["Key"]
    table: Table
    note: str = ""
    kind: str = "picture"


@dataclass(frozen=True)
class Key:
    """An entry of a legend: the colour's number, 0 for a reference."""

    name: str
    colour: int
    style: str


@dataclass(frozen=True)
class Row:
    """Blocks side by side where there is room; `narrow`: three of them where two would be."""

    blocks: Sequence["Block"]
    narrow: bool = False
    kind: str = "row"


@dataclass(frozen=True)
class Matrix:
    """Counts of gold labels (rows) by predicted ones (columns); drawn with names where there are few labels."""

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    note: str = ""
    kind: str = "matrix"

    @property
    def is_small(self) -> bool:
        """Whether every cell has room for its number."""
        return len(self.labels) <= 12

    def cells(self) -> list[tuple[int, int, int, float]]:
        """Row, column, count and share of the row of every cell that is not empty."""
        return [
            (r, c, count, count / sum(row)) for r, row in enumerate(self.counts) for c, count in enumerate(row) if count
        ]

    def share(self, row: int, column: int) -> float:
        """Share of a row's examples that are in a cell."""
        return self.counts[row][column] / max(sum(self.counts[row]), 1)


@dataclass(frozen=True)
class Span:
    """A part of a text, marked or not, and what is written beside the mark."""

    text: str
    mark: Mark = ""
    label: str = ""


@dataclass(frozen=True)
class Line:
    """A text of a card with what it is: a sentence, a question, the gold tags."""

    name: str
    spans: Sequence[Span]


@dataclass(frozen=True)
class Card:
    """One example: where it is, its texts, and what was said of it."""

    key: str
    lines: Sequence[Line]
    facts: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Cards:
    """Examples one under the other; beyond `shown`, the rest is folded away."""

    title: str
    cards: Sequence[Card]
    note: str = ""
    shown: int = 8
    kind: str = "cards"


@dataclass(frozen=True)
class Word:
    """A guessed word: what stood there, its probability and rank, and the likeliest others with theirs.

    is_piece: it goes on with the word before.
    """

    text: str
    probability: float
    rank: int
    guesses: Sequence[tuple[str, float]]
    is_piece: bool = False

    @property
    def level(self) -> int:
        """0 to 4: how much of the probability the truth got."""
        return sum(self.probability >= least for least in (0.01, 0.1, 0.3, 0.6))


@dataclass(frozen=True)
class MaskedWords:
    """Sentences whose words were masked, or kept back, one after the other."""

    title: str
    sentences: Sequence[Sequence[Word]]
    note: str = ""
    kind: str = "masked_words"


@dataclass(frozen=True)
class Tabs:
    """Blocks of which one set is shown at a time, by name."""

    title: str
    panels: Sequence[tuple[str, Sequence["Block"]]]
    kind: str = "tabs"


Block: TypeAlias = Tiles | Note | Table | Picture | Row | Matrix | Cards | MaskedWords | Tabs


@dataclass(frozen=True)
class Section:
    """A headed part of a report."""

    title: str
    blocks: Sequence[Block]
    lead: str = ""


@dataclass(frozen=True)
class Chapter:
    """All that is said of one run, or of all of them together."""

    name: str
    title: str
    subtitle: str
    sections: Sequence[Section]
