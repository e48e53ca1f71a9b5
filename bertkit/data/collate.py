"""From a list of instances to a dict of tensors, packed (no padding) or padded; masks are drawn here, anew each time.

Letters: B or I instances, S padded row length, T packed tokens, M masked positions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import torch
from torch.utils.data import get_worker_info

from bertkit.data.masking import MaskedTokens, mask_tokens, unmasked_tokens
from bertkit.data.vocabulary import Vocabulary

Instance = Mapping[str, Any]
Batch = dict[str, Any]
IGNORED = -100
Predicts = Literal["masked", "next", "neighbours"]
# Where the prediction of a word is read from, counted from the word itself.
_READ_AT: Final[Mapping[Predicts, int]] = {"masked": 0, "next": -1, "neighbours": 0}


class DataCollatorForPretraining:
    """Masks instances and batches them for masked LM with next sentence prediction.

    An instance is a mapping with `input_ids`, optionally `token_type_ids`, `next_sentence_label` (0 B follows A,
    1 it does not), `word_starts` and `key` (the random stream to mask it with; without one, streams follow `seed`).

    Packed (`packed=True`), for bertkit's models: `input_ids`, `token_type_ids`, `position_ids` [T], `masked_positions`,
    `labels` [M], `next_sentence_label` [I], `cu_seqlens` [I + 1] and `max_seqlen`. Padded, for any BERT: `input_ids`,
    `token_type_ids`, `attention_mask`, `labels` [B, S], -100 where nothing is predicted, `next_sentence_label` [B].
    Masking follows Devlin et al. 2019, appendix A.1.

    predicts: 'masked' words; or every word that is no special token, none of them masked: as the 'next' one after the
    token before it (`masked_positions` are those tokens), or from its 'neighbours' on either side (`masked_positions`
    are the words themselves). Packed, what is not masked is called `lm_labels`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        packed: bool = False,
        predicts: Predicts = "masked",
        mlm_probability: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        whole_word: bool = False,
        pad_to_multiple_of: int | None = None,
        seed: int = 0,
    ) -> None:
        self.vocabulary = vocabulary
        self.packed = packed
        self.predicts = predicts
        self.mlm_probability = mlm_probability
        self.mask_share = mask_share
        self.random_share = random_share
        self.whole_word = whole_word
        self.pad_to_multiple_of = pad_to_multiple_of
        self._seed = seed
        self._worker_seed: int | None = None
        self._generator = np.random.default_rng(seed)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, **options: Any) -> "DataCollatorForPretraining":
        """The collator for a transformers tokenizer; `options` are the keywords of the constructor."""
        return cls(Vocabulary.from_tokenizer(tokenizer), **options)

    def __call__(self, instances: Sequence[Instance]) -> Batch:
        masked = [self._mask(instance) for instance in instances]
        batch = self._pack(instances, masked) if self.packed else self._pad(instances, masked)
        if "next_sentence_label" in instances[0]:
            batch["next_sentence_label"] = torch.tensor([int(i["next_sentence_label"]) for i in instances])
        return batch

    def _mask(self, instance: Instance) -> MaskedTokens:
        input_ids = np.asarray(instance["input_ids"])
        special_T = self.vocabulary.is_special[input_ids]
        if self.predicts != "masked":
            return unmasked_tokens(input_ids, special_T)
        return mask_tokens(
            input_ids,
            special_T,
            vocab_size=self.vocabulary.size,
            mask_id=self.vocabulary.mask_id,
            mlm_probability=self.mlm_probability,
            mask_share=self.mask_share,
            random_share=self.random_share,
            generator=np.random.default_rng(instance["key"]) if "key" in instance else self._stream(),
            word_starts_T=self._word_starts(instance, input_ids) if self.whole_word else None,
        )

    def _stream(self) -> np.random.Generator:
        """The stream for instances without a key: one a process, so that a DataLoader's workers mask differently."""
        worker = get_worker_info()
        if worker is not None and self._worker_seed != worker.seed:
            self._worker_seed = worker.seed
            self._generator = np.random.default_rng((self._seed, worker.seed))
        return self._generator

    def _word_starts(self, instance: Instance, input_ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        known = instance.get("word_starts")
        return ~self.vocabulary.is_continuation[input_ids] if known is None else np.asarray(known)

    def _pack(self, instances: Sequence[Instance], masked: Sequence[MaskedTokens]) -> Batch:
        batch = pack_rows([m.input_ids_T for m in masked], [_token_types(i) for i in instances])
        starts = batch["cu_seqlens"][:-1].numpy()
        read_at = starts + _READ_AT[self.predicts]
        positions = [m.masked_positions_M + start for m, start in zip(masked, read_at, strict=True)]
        batch["masked_positions"] = torch.from_numpy(np.concatenate(positions))
        labels = "labels" if self.predicts == "masked" else "lm_labels"
        batch[labels] = torch.from_numpy(np.concatenate([m.labels_M for m in masked]))
        return batch

    def _pad(self, instances: Sequence[Instance], masked: Sequence[MaskedTokens]) -> Batch:
        batch = pad_rows(
            [m.input_ids_T for m in masked],
            [_token_types(i) for i in instances],
            pad_id=self.vocabulary.pad_id,
            multiple_of=self.pad_to_multiple_of,
        )
        labels_BS = torch.full_like(batch["input_ids"], IGNORED)
        for row_S, m in zip(labels_BS, masked, strict=True):
            row_S[torch.from_numpy(m.masked_positions_M)] = torch.from_numpy(m.labels_M)
        batch["labels"] = labels_BS
        return batch


def pack_rows(input_ids: Sequence[np.ndarray[Any, Any]], token_type_ids: Sequence[np.ndarray[Any, Any]]) -> Batch:
    """Lays rows end to end: `input_ids`, `token_type_ids`, `position_ids` [T], `cu_seqlens` [I + 1], `max_seqlen`."""
    lengths = np.array([len(row) for row in input_ids])
    return {
        "input_ids": torch.from_numpy(np.concatenate(input_ids).astype(np.int64)),
        "token_type_ids": torch.from_numpy(np.concatenate(token_type_ids).astype(np.int64)),
        "position_ids": torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])),
        "cu_seqlens": torch.from_numpy(np.cumsum([0, *lengths]).astype(np.int32)),
        "max_seqlen": int(lengths.max()),
    }


def pad_rows(
    input_ids: Sequence[np.ndarray[Any, Any]],
    token_type_ids: Sequence[np.ndarray[Any, Any]],
    *,
    pad_id: int,
    multiple_of: int | None = None,
) -> Batch:
    """Lays rows under one another: `input_ids`, `token_type_ids`, `attention_mask` [B, S], S the longest row."""
    longest = max(len(row) for row in input_ids)
    if multiple_of:
        longest += -longest % multiple_of
    shape = (len(input_ids), longest)
    ids_BS, types_BS, mask_BS = np.full(shape, pad_id), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, (ids, types) in enumerate(zip(input_ids, token_type_ids, strict=True)):
        ids_BS[number, : len(ids)], types_BS[number, : len(ids)], mask_BS[number, : len(ids)] = ids, types, 1
    return {
        "input_ids": torch.from_numpy(ids_BS),
        "token_type_ids": torch.from_numpy(types_BS),
        "attention_mask": torch.from_numpy(mask_BS),
    }


def _token_types(instance: Instance) -> np.ndarray[Any, Any]:
    known = instance.get("token_type_ids")
    return np.zeros(len(instance["input_ids"]), dtype=np.int64) if known is None else np.asarray(known)
