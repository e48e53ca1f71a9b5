"""The drawings of the architectures page, from what `shapes` saw: inline SVG that follows the page's colours.

Every drawing reads downwards, as the code runs: pieces, encoder, states, head, answer.
"""

from collections.abc import Iterator, Sequence
from html import escape

from shapes import ARCHITECTURES, Architecture, Seen, explained, see, visible

WIDTH = 760
MARGIN = 10
# Between two instances, in pieces.
GAP = 0.5
WIDEST = 52
# The boxes of a head.
HEAD = 240
# For a word behind the last piece.
LEAST_ROOM = 60


class Canvas:
    """Collects the shapes of one drawing; `y` is where the next row goes."""

    def __init__(self, name: str, title: str, description: str) -> None:
        self.name, self.title, self.description = name, title, description
        self.drawn: list[str] = []
        self.y = 0.0

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        self.drawn.append(f'<text x="{x:g}" y="{y:g}"{_class(kind)}>{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, words: Sequence[str] = (), kind: str = "") -> None:
        """A rectangle with lines of text in its middle, the first in bold where there are several."""
        self.drawn.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"{_class(kind)}/>')
        first = y + height / 2 + 4 - 7.5 * (len(words) - 1)
        for line, each in enumerate(words):
            self.text(x + width / 2, first + 15 * line, each, "name" if len(words) > 1 and not line else "")

    def line(self, x: float, y: float, to_x: float, to_y: float, kind: str = "") -> None:
        tip = "" if "thin" in kind else f' marker-end="url(#{self.name}-tip)"'
        self.drawn.append(f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}"{_class(kind)}{tip}/>')

    def side(self, words: str) -> None:
        """What a row is, above it."""
        self.y += 22
        self.text(MARGIN, self.y, words, "side")
        self.y += 8

    def svg(self) -> str:
        ids = f"{self.name}-title {self.name}-desc"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.y + MARGIN:g}" role="img" '
            f'aria-labelledby="{ids}"><title id="{self.name}-title">{escape(self.title)}</title>'
            f'<desc id="{self.name}-desc">{escape(self.description)}</desc><defs><marker id="{self.name}-tip" '
            'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z"/></marker></defs><g class="net">{"".join(self.drawn)}</g></svg>'
        )


def architecture(name: str) -> Iterator[str]:
    """A model of `shapes.ARCHITECTURES` with the batch that went through it."""
    known, seen = ARCHITECTURES[name], see(name)
    canvas = Canvas(name, known.title, _described(known, seen))
    columns = _columns(seen)
    _draw_pieces(canvas, seen, columns)
    _draw_encoder(canvas, known, seen, columns)
    HEADS[known.problem](canvas, known, seen, columns)
    yield _figure(canvas)


def _described(known: Architecture, seen: Seen) -> str:
    shapes = ", ".join(f"{part} {_shape(shape)}" for part, shape in seen.shapes.items() if "." not in part)
    return f"The packed pieces {' '.join(seen.pieces)} go through {seen.layers} layers and the head: {shapes}."


def _columns(seen: Seen) -> tuple[list[float], float]:
    """The middle of every piece, and the width of a column."""
    instance = [next(i for i, end in enumerate(seen.bounds[1:]) if t < end) for t in range(len(seen.pieces))]
    pitch = min(WIDEST, (WIDTH - 2 * MARGIN) / (len(seen.pieces) + GAP * instance[-1]))
    return [MARGIN + pitch * (t + GAP * i + 0.5) for t, i in enumerate(instance)], pitch


def _draw_pieces(canvas: Canvas, seen: Seen, columns: tuple[list[float], float]) -> None:
    middles, pitch = columns
    bounds = " ".join(map(str, seen.bounds))
    canvas.side(
        f"packed batch: T = {len(seen.pieces)} tokens, I = {len(seen.bounds) - 1} instances, cu_seqlens {bounds}"
    )
    for x, piece, segment in zip(middles, seen.pieces, seen.segments, strict=True):
        canvas.box(x - pitch / 2 + 1.5, canvas.y, pitch - 3, 24, [piece], "b" if segment else "a")
    for name, values in (("segment", ["AB"[s] for s in seen.segments]), ("position", map(str, seen.positions))):
        canvas.y += 14
        for x, value in zip(middles, values, strict=True):
            canvas.text(x, canvas.y + 24, value, "small")
        if WIDTH - middles[-1] - pitch / 2 > LEAST_ROOM:
            canvas.text(middles[-1] + pitch / 2 + 6, canvas.y + 24, name, "small start")
    canvas.y += 30


def _draw_encoder(canvas: Canvas, known: Architecture, seen: Seen, columns: tuple[list[float], float]) -> None:
    middles, pitch = columns
    left, width = middles[0] - pitch / 2 + 1.5, middles[-1] - middles[0] + pitch - 3
    hidden = seen.shapes["bert"]
    frozen = ", frozen" if known.bilstm else ""
    words = [f"embeddings and {seen.layers} layers{frozen}", "attention stays within an instance"]
    canvas.y += 8
    canvas.box(left, canvas.y, width, 44, words, "door" if not known.bilstm else "disk")
    canvas.y += 44
    if known.bilstm:
        _draw_reader(canvas, known, seen, left, width)
        hidden = seen.shapes["reader"]
    canvas.side(f"states [T, {'W' if known.bilstm else 'D'}] = {_shape(hidden)}")
    pooled = known.problem in ("classification", "multiple_choice")
    for t, x in enumerate(middles):
        used = t in seen.bounds[:-1] if pooled else seen.word is None or seen.word[t] >= 0
        canvas.box(x - pitch / 2 + 6, canvas.y, pitch - 12, 14, (), "used" if used else "idle")
    canvas.y += 14


def _draw_reader(canvas: Canvas, known: Architecture, seen: Seen, left: float, width: float) -> None:
    """The scalar mix of all layers and the BiLSTM above it."""
    assert known.bilstm is not None
    middle = left + width / 2
    canvas.line(middle, canvas.y, middle, canvas.y + 18)
    words = ["scalar mix", f"learned share of each layer, {_shape(seen.shapes['bert'])}"]
    canvas.box(left, canvas.y + 20, width, 44, words, "door")
    canvas.line(middle, canvas.y + 64, middle, canvas.y + 82)
    words = ["BiLSTM", f"{known.bilstm['num_layers']} layers of {known.bilstm['size']} units a direction"]
    canvas.box(left, canvas.y + 84, width, 44, words, "door")
    canvas.y += 128


def _draw_pooled(canvas: Canvas, known: Architecture, seen: Seen, columns: tuple[list[float], float]) -> None:
    """A vector an instance, from its first token: classification."""
    answers = [[(label, label == answer) for label in known.labels] for answer in known.answers]
    _draw_vectors(canvas, seen, columns)
    classes = seen.shapes["logits"]
    canvas.side(f"logits [I, C] = {_shape(classes)}; labels [I] = {_shape(classes[:1])}")
    for start, names in zip(seen.bounds, answers, strict=False):
        x = columns[0][start] - columns[1] / 2 + 1.5
        for label, right in names:
            canvas.box(x, canvas.y, 104, 22, [label], "used" if right else "idle")
            x += 108
    canvas.y += 22


def _draw_choices(canvas: Canvas, known: Architecture, seen: Seen, columns: tuple[list[float], float]) -> None:
    """A score an instance; the choices of one example compete: multiple choice."""
    _draw_vectors(canvas, seen, columns)
    rows = seen.shapes["logits"]
    canvas.side(f"logits [examples, choices] = {_shape(rows)}: one softmax over the choices; labels {_shape(rows[:1])}")
    for choice, start in enumerate(seen.bounds[:-1]):
        right = choice == known.answers[0]
        words = f"score of choice {choice}{': the right one' if right else ''}"
        canvas.box(columns[0][start] - columns[1] / 2 + 1.5, canvas.y, HEAD, 22, [words], "used" if right else "idle")
    canvas.y += 22


def _draw_vectors(canvas: Canvas, seen: Seen, columns: tuple[list[float], float]) -> None:
    """Pooler and classifier below the first token of every instance."""
    middles, pitch = columns
    pooler = f"pooler: dense, tanh; [I, D] = {_shape(seen.shapes['bert.pooler'])}"
    top = canvas.y
    for start in seen.bounds[:-1]:
        x, left = middles[start], middles[start] - pitch / 2 + 1.5
        canvas.line(x, top, x, top + 20)
        canvas.box(left, top + 22, HEAD, 24, [pooler], "door")
        canvas.line(x, top + 46, x, top + 64)
        canvas.box(left, top + 66, HEAD, 24, ["dropout, classifier"], "door")
    canvas.y = top + 90


def _draw_tags(canvas: Canvas, known: Architecture, seen: Seen, columns: tuple[list[float], float]) -> None:
    """A label for the first piece of every word: tagging."""
    middles, pitch = columns
    _draw_every_token(canvas, "dropout, classifier", middles, pitch)
    canvas.side(f"logits [T, C] = {_shape(seen.shapes['logits'])}; the first piece of a word speaks for it")
    numbers = seen.word or []
    answers = iter(tag for tags in known.answers for tag in tags)
    for x, number in zip(middles, numbers, strict=True):
        tag = next(answers) if number >= 0 else "-"
        canvas.box(x - pitch / 2 + 1.5, canvas.y, pitch - 3, 22, [tag], "used" if number >= 0 else "idle")
    canvas.y += 22


def _draw_spans(canvas: Canvas, known: Architecture, seen: Seen, columns: tuple[list[float], float]) -> None:
    """A score for every token of being the first, and of being the last, of the answer: question answering."""
    middles, pitch = columns
    _draw_every_token(canvas, f"qa_outputs {_shape(seen.shapes['qa_outputs'])}", middles, pitch)
    for side, name in enumerate(("start", "end")):
        scores = seen.shapes[f"{name}_logits"]
        canvas.side(f"{name}_logits [T] = {_shape(scores)}; {name}_positions [I] = [{len(seen.bounds) - 1}]")
        for instance, (start, end) in enumerate(zip(seen.bounds, seen.bounds[1:], strict=False)):
            right = start + seen.pieces[start:end].index(known.answers[instance][side])
            for t in range(start, end):
                word = [seen.pieces[t]] if t == right else []
                canvas.box(middles[t] - pitch / 2 + 1.5, canvas.y, pitch - 3, 22, word, "used" if word else "idle")
        canvas.y += 22


def _draw_every_token(canvas: Canvas, words: str, middles: list[float], pitch: float) -> None:
    for x in middles:
        canvas.line(x, canvas.y, x, canvas.y + 16)
    left, width = middles[0] - pitch / 2 + 1.5, middles[-1] - middles[0] + pitch - 3
    canvas.box(left, canvas.y + 18, width, 24, [words], "door")
    canvas.y += 42


HEADS = {
    "classification": _draw_pooled,
    "multiple_choice": _draw_choices,
    "span_qa": _draw_spans,
    "tagging": _draw_tags,
}


def input_representation(pair: str) -> Iterator[str]:
    """The sum of three embeddings that every piece of two texts, parted by a stroke, enters as (figure 2)."""
    first, _, second = pair.partition(" | ")
    tokens = explained(first, second).tokens
    canvas = Canvas(
        "input",
        "Input representation",
        f"Each of the {len(tokens)} pieces enters as the sum of its word, segment and position embedding.",
    )
    pitch = min(WIDEST, (WIDTH - 2 * MARGIN) / len(tokens))
    rows = (
        ("word pieces", [t.piece for t in tokens]),
        ("word embedding of", [str(t.input_id) for t in tokens]),
        ("+ segment embedding of", ["AB"[t.token_type_id] for t in tokens]),
        ("+ position embedding of", [str(t.position) for t in tokens]),
    )
    for row, (name, values) in enumerate(rows):
        canvas.side(name)
        for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
            kind = ("b" if token.token_type_id else "a") if row == 0 else "idle"
            canvas.box(MARGIN + i * pitch + 1.5, canvas.y, pitch - 3, 22, [value], kind)
        canvas.y += 22
    canvas.y += 8
    canvas.box(MARGIN + 1.5, canvas.y, pitch * len(tokens) - 3, 24, ["sum, LayerNorm, dropout: [T, D]"], "door")
    canvas.y += 24
    yield _figure(canvas)


DIRECTIONS = {
    "bidirectional": ("BERT", "objective mlm+nsp or mlm", "every token sees every token"),
    "left-to-right": ("Left to right", "objective ltr or ltr+nsp", "a token sees those before it"),
    "bilm": ("ELMo-style", "objective bilm", "two LSTMs that never meet"),
}
SHOWN = ("the", "cat", "sat", "on", "it")


def directions() -> Iterator[str]:
    """What the state of every token depends on in the three kinds of model, as their gradients say (figure 3)."""
    canvas = Canvas(
        "directions",
        "Three directions",
        "Which tokens a state depends on: in BERT all of them, left to right the earlier ones, in the ELMo-style model "
        "the earlier ones in one half of the state and the later ones in the other.",
    )
    for panel, (direction, words) in enumerate(DIRECTIONS.items()):
        _draw_direction(canvas, direction, words, left=MARGIN + panel * 250)
    canvas.y = 262
    yield _figure(canvas)


def _draw_direction(canvas: Canvas, direction: str, words: tuple[str, ...], *, left: float) -> None:
    for line, (each, kind) in enumerate(zip(words, ("name", "", ""), strict=True)):
        canvas.text(left + 120, 20 + 16 * line, each, kind)
    cell, top = 34, 92
    for i, word in enumerate(SHOWN):
        canvas.text(left + 48 + cell * (i + 0.5), top - 12, word, "small")
        canvas.text(left + 40, top + cell * (i + 0.5) + 4, word, "small end")
    parts = visible(direction, len(SHOWN))
    for i in range(len(SHOWN)):
        for j in range(len(SHOWN)):
            x, y = left + 48 + cell * j, top + cell * i
            canvas.box(x + 1, y + 1, cell - 2, cell - 2, (), "used" if parts[:, i, j].any() else "idle")
            if len(parts) > 1 and parts[0, i, j] != parts[1, i, j]:
                canvas.text(x + cell / 2, y + cell / 2 + 4, "→" if parts[0, i, j] else "←")


def _figure(canvas: Canvas) -> str:
    return f'<figure markdown="0" class="drawing">{canvas.svg()}</figure>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
