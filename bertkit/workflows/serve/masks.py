"""A pre-trained model that answers: the likeliest words in the place of every [MASK] of a text.

Letters: M masks, T packed tokens, V vocabulary, K words asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor

from bertkit.data.features import Array, Features, assemble_features, batches_by_length, collate_features
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import LoadedTokenizer, load_tokenizer
from bertkit.errors import ConfigError, refused_as
from bertkit.model import BertKitForMaskedLM
from bertkit.tasks.problem import encoder_inputs
from bertkit.tasks.spec import Example
from bertkit.train.setup import build_accelerator
from bertkit.workflows.predict import prediction_precision
from bertkit.workflows.serve.asked import Answer, Asked, RequestError
from bertkit.workflows.serve.forms import SHOWN_CHARS, Form, require_text
from bertkit.workflows.source import bert_folder, longest_input, open_bert_config, require_room

# A row of scores over the whole vocabulary each.
MOST_MASKS: Final = 20
TOKENS_A_BATCH: Final = 2048
WORDS_SHOWN, MOST_WORDS = 5, 100
_DIGITS: Final = 6


@dataclass(frozen=True)
class _Encoded:
    """A text as the encoder takes it [T], and the character every mask of it starts at."""

    ids: Array
    mask_starts: tuple[int, ...]


class MaskModel:
    """Answers with the masked LM head of a pre-trained model."""

    def __init__(
        self, source: str, model: BertKitForMaskedLM, tokenizer: LoadedTokenizer, accelerator: Accelerator
    ) -> None:
        self._source = source
        self._model = model
        self._tokenizer = tokenizer
        self._encoder = TextEncoder(tokenizer)
        self._mask_id = tokenizer.vocabulary.mask_id
        self._mask = tokenizer.vocabulary.pieces[self._mask_id]
        self._longest = longest_input(model.config, tokenizer)
        self._accelerator = accelerator
        self._form = Form(("text",), ("text",))

    @classmethod
    def open(cls, source: str) -> "MaskModel":
        """The model of a pre-training run, or of any BERT folder or Hub id with a masked LM head.

        Raises:
            ConfigError: it cannot be opened, or its tokenizer is another model's.
        """
        config, folder = open_bert_config(source), bert_folder(source)
        with refused_as(ConfigError, f"{source} cannot be opened as a masked_lm model"):
            model: Any = BertKitForMaskedLM.from_pretrained(folder, dtype=torch.float32)
        accelerator = build_accelerator(prediction_precision())
        model = accelerator.prepare_model(model.to(accelerator.device), evaluation_mode=True)
        tokenizer = load_tokenizer(folder)
        require_room(config, tokenizer.vocabulary, source)
        return cls(source, model.eval(), tokenizer, accelerator)

    def describe(self) -> dict[str, Any]:
        """What the model does, how a mask is written, and how much it takes."""
        return {
            "task": "fill-mask",
            "problem": "fill_mask",
            "fields": ["text"],
            "parameters": {"top_k": WORDS_SHOWN},
            "mask_token": self._mask,
            "max_seq_length": self._longest,
        }

    def read(self, value: Any, where: str, parameters: Mapping[str, Any]) -> Asked:
        """One text with at least one mask."""
        text = require_text(self._form.values(value, where)["text"], f"{where}.text")
        number = text.count(self._mask)
        if not number:
            raise RequestError(f"{where}.text has no {self._mask}: put it where a word is to be guessed")
        if number > MOST_MASKS:
            raise RequestError(f"{where}.text has {number} times {self._mask}: {MOST_MASKS} are the most")
        return Asked(Example(where, where, (text,)), {"top_k": _top_k(parameters)})

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Exception]:
        """The likeliest words at every mask of every text, in one pass."""
        encoded = [self._encode(each.example.texts[0]) for each in asked]
        fits = [number for number, each in enumerate(encoded) if len(each.ids) <= self._longest]
        guesses = self._guess([encoded[n].ids for n in fits], max(each.parameters["top_k"] for each in asked))
        answers: list[Answer | Exception] = [_too_long(each.example, self._longest) for each in asked]
        for number, (scores_MK, words_MK) in zip(fits, guesses, strict=True):
            answers[number] = self._say(asked[number], encoded[number], scores_MK, words_MK)
        return answers

    def _encode(self, text: str) -> _Encoded:
        parts = text.split(self._mask)
        first, *others = [pieces.ids for pieces in self._encoder.encode(parts)]
        ids, _ = self._encoder.row(np.concatenate([first, *(x for ids in others for x in ([self._mask_id], ids))]))
        lengths = [len(part) + len(self._mask) for part in parts[:-1]]
        return _Encoded(ids, tuple(end - len(self._mask) for end in accumulate(lengths)))

    def _guess(self, rows: Sequence[Array], top_k: int) -> Iterator[tuple[Array, Array]]:
        """Probabilities and ids [M, K] at the masks of every row, in order."""
        features = assemble_features([(ids, len(ids)) for ids in rows], range(len(rows)))
        found: dict[int, tuple[Array, Array]] = {}
        for numbers in batches_by_length(features, max_tokens=TOKENS_A_BATCH):
            found |= self._guess_batch(features, numbers, top_k)
        return (found[number] for number in range(len(rows)))

    @torch.inference_mode()
    def _guess_batch(self, features: Features, numbers: Array, top_k: int) -> dict[int, tuple[Array, Array]]:
        batch = collate_features(features, numbers)
        places_M = (batch["input_ids"] == self._mask_id).nonzero()[:, 0]
        row_M = torch.searchsorted(batch["cu_seqlens"].long(), places_M, right=True) - 1
        inputs = encoder_inputs(batch) | {"masked_positions": places_M}
        logits_MV: Tensor = self._model(**send_to_device(inputs, self._accelerator.device)).logits
        # The table of embeddings may have more rows than the tokenizer has pieces.
        known_MV = logits_MV.float().softmax(-1)[:, : self._tokenizer.vocabulary.size]
        best = known_MV.topk(min(top_k, known_MV.shape[1]))
        scores_MK, words_MK = best.values.cpu().numpy(), best.indices.cpu().numpy()
        of_row = [(row_M == place).numpy() for place in range(len(numbers))]
        return {int(n): (scores_MK[of], words_MK[of]) for n, of in zip(numbers, of_row, strict=True)}

    def _say(self, asked: Asked, encoded: _Encoded, scores_MK: Array, words_MK: Array) -> Answer:
        """Masks with their words, and the text with the likeliest in their places."""
        text, masks, best = asked.example.texts[0], [], []
        for start, scores_K, words_K in zip(encoded.mask_starts, scores_MK, words_MK, strict=True):
            words = [
                {"word": self._tokenizer.pretrained.decode([int(word)]), "probability": round(float(score), _DIGITS)}
                for score, word in zip(scores_K, words_K, strict=True)
            ]
            shown = words[: asked.parameters["top_k"]]
            masks.append({"start": start, "end": start + len(self._mask), "words": shown})
            best.append(str(words[0]["word"]))
        return {"text": _filled(text.split(self._mask), best), "masks": masks}


def _filled(parts: Sequence[str], words: Sequence[str]) -> str:
    """The text with words between its parts; one that continues a word stands close to it, as tokenizers decode."""
    filled = parts[0]
    for word, part in zip(words, parts[1:], strict=True):
        filled = (filled.rstrip() + word[2:] if word.startswith("##") else filled + word) + part
    return filled


def _top_k(parameters: Mapping[str, Any]) -> int:
    for name in parameters:
        if name != "top_k":
            raise RequestError(f"parameters has an unknown field '{name[:SHOWN_CHARS]}': it takes top_k")
    top_k = parameters.get("top_k", WORDS_SHOWN)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= MOST_WORDS:
        raise RequestError(f"parameters.top_k must be a whole number from 1 to {MOST_WORDS}")
    return top_k


def _too_long(example: Example, longest: int) -> RequestError:
    return RequestError(f"{example.place}.text has more than the {longest} tokens the model takes: shorten it")
