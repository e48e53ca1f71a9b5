"""A tokenizer whose pieces are letters and a few words, small enough to check by eye; and a BERT that takes them."""

from functools import cache
from string import ascii_lowercase, digits

import numpy as np
import torch
from transformers import BertTokenizer

from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import LoadedTokenizer
from bertkit.data.vocabulary import Vocabulary, plain_text_engine
from bertkit.model import BertKitConfig

WORDS = ("the", "cat", "sat", "on", "mat", "cafe", "who", "where", "##s", "##ing")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = tuple(
    dict.fromkeys(
        [*SPECIALS, *WORDS, *".,?!'-日本", *ascii_lowercase, *digits, *(f"##{c}" for c in ascii_lowercase + digits)]
    )
)


@cache
def toy_encoder() -> TextEncoder:
    """Lowercases and strips accents, as bert-base-uncased does."""
    pretrained = BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}, do_lower_case=True)
    return TextEncoder(
        LoadedTokenizer(pretrained, plain_text_engine(pretrained), Vocabulary.from_tokenizer(pretrained))
    )


def toy_model(model_class, *, num_labels, seed=0):
    """Two layers of sixteen without dropout, all weights random, so that two forwards agree and every bias shows."""
    config = BertKitConfig(
        vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=num_labels,
    )  # fmt: skip
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def pieces_of(features, number):
    """The pieces of one feature, to read."""
    return " ".join(PIECES[i] for i in features.input_ids[features.tokens_of(np.array([number]))])


def padded_rows(batch):
    """A packed batch as the padded rows that transformers takes, and where its tokens are."""
    lengths = batch["cu_seqlens"].diff().tolist()
    rows = {
        name: torch.nn.utils.rnn.pad_sequence(batch[name].split(lengths), batch_first=True)
        for name in ("input_ids", "token_type_ids")
    }
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(n, dtype=torch.long) for n in lengths], batch_first=True)
    return {**rows, "attention_mask": mask}
