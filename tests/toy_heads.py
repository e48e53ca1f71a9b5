"""Stock BERT folders with a head whose weights are random and large, so that no two texts look alike to them."""

import torch
import transformers
from toy_encoder import PIECES

SETS = {"problem_type": "multi_label_classification"}


def write_heads(folder):
    """A folder of one for every kind of problem."""
    write_head(folder / "classes")
    write_head(folder / "number", labels=("score",))
    write_head(folder / "sets", labels=("a", "b", "c"), **SETS)
    write_head(folder / "odd sets", labels=("a|b", "c;d", "e"), **SETS)
    write_head(folder / "tags", "TokenClassification", labels=("O", "B-X", "I-X"))
    write_head(folder / "answers", "QuestionAnswering", labels=("a", "b"))
    write_head(folder / "choices", "MultipleChoice", labels=("a",))
    return folder


def write_head(folder, head="SequenceClassification", *, labels=("neg", "pos", "mid"), seed=0, **config):
    """A folder as `save_pretrained` leaves it; the same seed gives the same weights."""
    transformers.logging.disable_progress_bar()
    names = dict(enumerate(labels))
    settings = transformers.BertConfig(
        vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64, id2label=names, label2id={name: number for number, name in names.items()}, **config,
    )  # fmt: skip
    model = getattr(transformers, f"BertFor{head}")(settings).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    model.save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(vocab={p: n for n, p in enumerate(PIECES)}, do_lower_case=True)
    tokenizer.save_pretrained(folder)
    return folder
