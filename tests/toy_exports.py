"""What is exported: models with random weights for every kind of head, and runs that took one step."""

from toy_encoder import PIECES, toy_model
from toy_tasks import toy_config, write_bert, write_examples
from transformers import BertTokenizer

import bertkit.model
from bertkit.workflows.exportable import Exportable
from bertkit.workflows.finetune import finetune
from bertkit.workflows.runs import RunFolder

# By head, its number of labels.
HEADS = {
    "PreTraining": 2,
    "MaskedLM": 2,
    "SequenceClassification": 3,
    "TokenClassification": 5,
    "QuestionAnswering": 2,
    "MultipleChoice": 1,
}


def toy_exportable(head, folder):
    """A model of a head with the toy tokenizer, as a run would give them."""
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}, do_lower_case=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    model = toy_model(getattr(bertkit.model, f"BertKitFor{head}"), num_labels=HEADS[head])
    return Exportable(model, folder / "tokenizer", 64)


def finetuned_run(problem, folder, *, steps=1):
    """A finished run of a problem on the toy examples of it."""
    config = toy_config(
        write_examples(folder, problem),
        write_bert(folder / "bert"),
        problem,
        train__max_steps=steps,
        train__epochs=None,
    )
    finetune(config, folder / "run")
    return RunFolder(folder / "run")
