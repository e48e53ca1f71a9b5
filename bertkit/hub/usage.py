"""How to use a model: a few lines of Python for every kind of problem, each of which a test runs."""

from typing import Final

_PIPELINE: Final = """\
from transformers import pipeline

{verb} = pipeline("{task}", model="{repo_id}"{options})
print({verb}({given}))
"""
_ANSWERS: Final = """\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo_id}"{code})
model = AutoModelForQuestionAnswering.from_pretrained("{repo_id}"{code})
inputs = tokenizer("Who wrote it?", "The novel was written by Mary Shelley in 1818.", return_tensors="pt")
with torch.no_grad():
    output = model(**inputs)
start, end = int(output.start_logits.argmax()), int(output.end_logits.argmax())
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))
"""
_CHOICES: Final = """\
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo_id}"{code})
model = AutoModelForMultipleChoice.from_pretrained("{repo_id}"{code})
context, choices = "It began to rain, so she", ["opened her umbrella.", "watered the garden."]
inputs = tokenizer([context] * len(choices), choices, padding=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**{{name: rows[None] for name, rows in inputs.items()}}).logits
print(choices[int(logits.argmax())])
"""
# What bertkit itself never does, others may do with a repository they know.
_CODE: Final = f", trust_remote_code={True}"
_TEXT, _PAIR = '"A text to label."', '{"text": "The first text.", "text_pair": "The second one."}'


def usage(
    kind: str, repo_id: str, *, takes_pairs: bool = False, has_chunks: bool = True, with_code: bool = False
) -> str:
    """Python for a model of `kind`: "pretraining" or the name of a problem.

    `has_chunks`: its tags are of chunks, such as B-PER. `with_code`: the repository carries the code of its classes.
    """
    code = _CODE if with_code else ""
    if kind in ("span_qa", "multiple_choice"):
        return (_ANSWERS if kind == "span_qa" else _CHOICES).format(repo_id=repo_id, code=code)
    given = _PAIR if takes_pairs else _TEXT
    task, verb, options = "text-classification", "classify", ""
    if kind == "pretraining":
        task, verb, given = "fill-mask", "fill_mask", '"The weather is [MASK] today."'
    elif kind == "tagging":
        task, verb, given = "token-classification", "tag", '"Mary Shelley was born in London."'
        options = ', aggregation_strategy="first"' if has_chunks else ""
    elif kind == "regression":
        verb, options = "score", ', function_to_apply="none"'
    elif kind == "multi_label":
        options = ", top_k=None"
    return _PIPELINE.format(repo_id=repo_id, task=task, verb=verb, given=given, options=options + code)
