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
_GENERATION: Final = """\
from transformers import pipeline

write = pipeline("text-generation", model="{repo_id}")
print(write("[CLS] The weather is", add_special_tokens=False, max_new_tokens=20))
"""
_NEXT_WORDS: Final = """\
import torch
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo_id}"{code})
model = {auto_class}.from_pretrained("{repo_id}"{code})
inputs = tokenizer("The weather is", return_tensors="pt")
with torch.no_grad():
    scores = model(**inputs)[0][0, -2]  # what follows the last word; after it stands [SEP]
print(tokenizer.convert_ids_to_tokens(scores.topk(5).indices.tolist()))
"""
_FEATURES: Final = """\
import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{repo_id}"{code})
model = AutoModel.from_pretrained("{repo_id}"{code})
inputs = tokenizer("The weather is fine.", return_tensors="pt")
with torch.no_grad():
    layers = model(**inputs, output_hidden_states=True).hidden_states
print(len(layers), "layers of", tuple(layers[-1].shape))
"""
# What bertkit itself never does, others may do with a repository they know.
_CODE: Final = f", trust_remote_code={True}"
# By kind, the template and the Auto class that has the head.
_OF_OTHER_OBJECTIVES: Final = {
    "generation": (_GENERATION, ""),
    "next_words": (_NEXT_WORDS, "AutoModelForCausalLM"),
    "next_words_and_pairs": (_NEXT_WORDS, "AutoModelForPreTraining"),
    "features": (_FEATURES, ""),
}
_TEXT, _PAIR = '"A text to label."', '{"text": "The first text.", "text_pair": "The second one."}'


def usage(
    kind: str, repo_id: str, *, takes_pairs: bool = False, has_chunks: bool = True, with_code: bool = False
) -> str:
    """Python for a model of `kind`: "pretraining", or what was pre-trained otherwise ("generation", of a stock model,
    "next_words", "next_words_and_pairs", "features"), or the name of a problem.

    `has_chunks`: its tags are of chunks, such as B-PER. `with_code`: the repository carries the code of its classes.
    """
    code = _CODE if with_code else ""
    if kind in ("span_qa", "multiple_choice"):
        return (_ANSWERS if kind == "span_qa" else _CHOICES).format(repo_id=repo_id, code=code)
    if kind in _OF_OTHER_OBJECTIVES:
        template, auto_class = _OF_OTHER_OBJECTIVES[kind]
        return template.format(repo_id=repo_id, code=code, auto_class=auto_class)
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
