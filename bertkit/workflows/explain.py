"""What BERT is given for a sentence or a pair: word pieces, ids, segments, positions, and what would be masked."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertkit.config.schema import Direction, MaskingConfig, PretrainConfig
from bertkit.data.masking import mask_tokens
from bertkit.data.store import TOKENIZER_FOLDER
from bertkit.data.texts import TextEncoder, cut_pair
from bertkit.data.tokenizer import LoadedTokenizer, load_tokenizer
from bertkit.errors import ConfigError
from bertkit.tasks.table import text_fault
from bertkit.workflows.runs import RunFolder, newest_run
from bertkit.workflows.source import direction_of, longest_input, open_bert_config

# Room of BERT's own; a tokenizer that was never told of a length says a number beyond any.
LONGEST = 512


@dataclass(frozen=True)
class InputToken:
    """One position of the input: the sum of its word, segment and position embedding goes into the encoder.

    masked_as: what would stand here in pre-training if the token were chosen, as it is in this draw; None if not.
    """

    position: int
    piece: str
    input_id: int
    token_type_id: int
    masked_as: str | None


@dataclass(frozen=True)
class Explanation:
    """The input representation of a text (Devlin et al. 2019, figure 2), and the pieces that found no room.

    direction: of the model, as its config says it; only a bidirectional one masks, with `mlm_probability`.
    """

    tokenizer: str
    tokens: tuple[InputToken, ...]
    num_cut: int
    direction: Direction
    mlm_probability: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def explain(
    text: str, pair: str | None = None, *, source: str | None = None, seed: int = 0, max_seq_length: int | None = None
) -> Explanation:
    """Encodes a text, or a pair, as pre-training would, and draws masks from `seed`.

    source: a run, a prepared store, or a BERT's folder or Hub id; the newest run if left out.

    Raises:
        ConfigError: the text is empty, there is no room for it, or the run has no tokenizer yet.
        CorpusError: the source holds no tokenizer.
        CheckpointError: no source was named and there is no run.
    """
    found = _source_of(source)
    for given in (text, pair or ""):
        if fault := text_fault(given):
            raise ConfigError(f"the text {fault}")
    tokenizer = load_tokenizer(found.folder)
    pieces = [each.ids for each in TextEncoder(tokenizer).encode([text] if pair is None else [text, pair])]
    if not all(len(each) for each in pieces):
        raise ConfigError("there is nothing to explain in an empty text: give one with letters in it")
    longest = _longest(found.folder, tokenizer)
    if max_seq_length is not None and max_seq_length > longest:
        raise ConfigError(f"{found.name} reads {longest} tokens at the most: lower --max-seq-length")
    room = (max_seq_length or longest) - (2 if pair is None else 3)
    if room < len(pieces):
        raise ConfigError(f"{max_seq_length} tokens leave no room for the text beside [CLS] and [SEP]: raise it")
    lengths = [len(each) for each in pieces]
    kept = [min(lengths[0], room)] if pair is None else list(cut_pair(*lengths, room=room))
    row_T, second = TextEncoder(tokenizer).row(*(each[:n] for each, n in zip(pieces, kept, strict=True)))
    is_masked = found.direction == "bidirectional"
    tokens = _tokens(row_T, second, tokenizer, _masked(row_T, tokenizer, found.masking, seed) if is_masked else {})
    probability = found.masking.mlm_probability if is_masked else None
    return Explanation(found.name, tokens, sum(lengths) - sum(kept), found.direction, probability)


def _longest(folder: str, tokenizer: LoadedTokenizer) -> int:
    """The tokens the model was trained to read; of a tokenizer alone, what it says, or BERT's own length."""
    try:
        return longest_input(open_bert_config(folder), tokenizer)
    except ConfigError:
        return int(min(tokenizer.pretrained.model_max_length, LONGEST))


def _masked(row_T: Any, tokenizer: LoadedTokenizer, masking: MaskingConfig, seed: int) -> dict[int, str]:
    """By position of the tokens that are chosen in this draw, what stands there then."""
    vocabulary = tokenizer.vocabulary
    masked = mask_tokens(
        row_T,
        vocabulary.is_special[row_T],
        vocab_size=vocabulary.size,
        mask_id=vocabulary.mask_id,
        mlm_probability=masking.mlm_probability,
        mask_share=masking.mask_share,
        random_share=masking.random_share,
        generator=np.random.default_rng(seed),
        word_starts_T=~vocabulary.is_continuation[row_T] if masking.whole_word else None,
    )
    return {place: vocabulary.pieces[masked.input_ids_T[place]] for place in masked.masked_positions_M.tolist()}


def _tokens(row_T: Any, second: int, tokenizer: LoadedTokenizer, masked: dict[int, str]) -> tuple[InputToken, ...]:
    return tuple(
        InputToken(
            position,
            tokenizer.vocabulary.pieces[token],
            int(token),
            int(position >= second),
            masked.get(position),
        )
        for position, token in enumerate(row_T)
    )


@dataclass(frozen=True)
class _Source:
    """A name to show, what transformers can open, how the model's run masks, or the paper does, and its direction."""

    name: str
    folder: str
    masking: MaskingConfig
    direction: Direction


def _source_of(source: str | None) -> _Source:
    run = newest_run() if source is None else RunFolder(Path(source))
    name = source or str(run.path)
    config = run.read_config(PretrainConfig) if run.is_run() and not run.is_finetuning() else None
    masking = MaskingConfig() if config is None else config.masking
    for folder in (run.export, run.tokenizer, run.store / TOKENIZER_FOLDER):
        if (folder / "tokenizer.json").is_file():
            return _Source(name, str(folder), masking, config.direction if config else _direction(str(folder)))
    if run.is_run():
        raise ConfigError(f"{name} has no tokenizer yet: let it prepare its text first")
    return _Source(name, name, masking, _direction(name))


def _direction(folder: str) -> Direction:
    """That of the model; of a tokenizer alone, BERT's."""
    try:
        return direction_of(open_bert_config(folder))
    except ConfigError:
        return "bidirectional"
