"""One tiny file for every named task, in its original layout, and the same rows as the Hub has them."""

import json
from dataclasses import dataclass, field
from typing import Any

from bertkit.tasks.layouts import read_split
from bertkit.tasks.registry import find_task
from bertkit.tasks.spec import Answer


@dataclass(frozen=True)
class Fixture:
    """What the file holds, what must be read from it, and the same rows as columns of a Hub data set.

    class_names: of the Hub's label ids, in the Hub's order.
    """

    split: str
    path: str
    content: str
    texts: list[tuple[str, ...]]
    labels: list[Any]
    hub: dict[str, list[Any]]
    class_names: list[str] = field(default_factory=list)


def tsv(*rows: str) -> str:
    """Lines with tabs; `|` stands for a tab."""
    return "".join(row.replace("|", "\t") + "\n" for row in rows)


def write(folder, path, content):
    """A file below a folder, from text or from bytes."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content if isinstance(content, bytes) else content.encode())
    return target


def read(name, split, folder):
    """The examples of a named task's split from local files."""
    return read_split(find_task(name), split, data_dir=folder)


ENTAILMENT = ["entailment", "not_entailment"]
NLI = ["entailment", "neutral", "contradiction"]
MNLI_HEADER = (
    "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse"
    "|sentence1|sentence2|"
)
HANS_HEADER = (
    "gold_label|sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse|sentence1|sentence2"
    "|pairID|heuristic|subcase|template"
)
SWAG_FULL_HEADER = "video-id,sent1,sent2,gold-ending,distractor-0,distractor-1,distractor-2,distractor-3\n"
IOB2 = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]


def squad_json(*questions: dict[str, Any]) -> str:
    """SQuAD's nesting around questions about one context."""
    return json.dumps({"version": "x", "data": [{"paragraphs": [{"context": "Ann ran.", "qas": questions}]}]})


WHO = {"id": "q1", "question": "Who ran?", "answers": [{"text": "Ann", "answer_start": 0}]}
WHERE = {"id": "q2", "question": "Where?", "is_impossible": True, "answers": [], "plausible_answers": [{"text": "x"}]}

FIXTURES = {
    "glue/cola": Fixture(
        "train",
        "CoLA/train.tsv",
        tsv("gj04|1||They ran.", "gj04|0|*|Ran they the."),
        [("They ran.",), ("Ran they the.",)],
        ["acceptable", "unacceptable"],
        {"sentence": ["They ran.", "Ran they the."], "label": [1, 0], "idx": [0, 1]},
        ["unacceptable", "acceptable"],
    ),
    "glue/sst2": Fixture(
        "validation",
        "SST-2/dev.tsv",
        tsv("sentence|label", "charming . |1", "dull |0"),
        [("charming .",), ("dull",)],
        ["positive", "negative"],
        {"sentence": ["charming . ", "dull "], "label": [1, 0], "idx": [0, 1]},
        ["negative", "positive"],
    ),
    "glue/mrpc": Fixture(
        "train",
        "MRPC/train.tsv",
        "\ufeff" + tsv("Quality|#1 ID|#2 ID|#1 String|#2 String", '1|7|8|" No .|No ".', '0|9|10|"A" .|B .'),
        [('" No .', 'No ".'), ('"A" .', "B .")],
        ["equivalent", "not_equivalent"],
        {"sentence1": ['" No .', '"A" .'], "sentence2": ['No ".', "B ."], "label": [1, 0], "idx": [0, 1]},
        ["not_equivalent", "equivalent"],
    ),
    "glue/stsb": Fixture(
        "validation",
        "STS-B/dev.tsv",
        tsv(
            "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
            "0|n|f|2012|4|none|none|A man.|A boy.|3.250",
            "1|n|f|2012|9|none|none|A man.|A man.|5.000",
        ),
        [("A man.", "A boy."), ("A man.", "A man.")],
        [3.25, 5.0],
        {"sentence1": ["A man.", "A man."], "sentence2": ["A boy.", "A man."], "label": [3.25, 5.0], "idx": [0, 1]},
    ),
    "glue/qqp": Fixture(
        "train",
        "QQP/train.tsv",
        tsv("id|qid1|qid2|question1|question2|is_duplicate", "133|1|2|Who?|Whom?|1", "195|3|4|Why?|How?|0"),
        [("Who?", "Whom?"), ("Why?", "How?")],
        ["duplicate", "not_duplicate"],
        {"question1": ["Who?", "Why?"], "question2": ["Whom?", "How?"], "label": [1, 0], "idx": [0, 1]},
        ["not_duplicate", "duplicate"],
    ),
    "glue/mnli": Fixture(
        "validation_mismatched",
        "MNLI/dev_mismatched.tsv",
        tsv(
            MNLI_HEADER + "label1|label2|label3|label4|label5|gold_label",
            "0|1|1e|slate|(|(|(|(|It rains.|It is wet.|neutral|entailment|entailment|neutral|neutral|neutral",
            "1|2|2e|slate|(|(|(|(|It rains.|It is dry.|contradiction|neutral|neutral|neutral|neutral|contradiction",
        ),
        [("It rains.", "It is wet."), ("It rains.", "It is dry.")],
        ["neutral", "contradiction"],
        {"premise": ["It rains."] * 2, "hypothesis": ["It is wet.", "It is dry."], "label": [1, 2], "idx": [0, 1]},
        NLI,
    ),
    "glue/qnli": Fixture(
        "train",
        "QNLI/train.tsv",
        tsv("index|question|sentence|label", "0|Who?|Ann.|entailment", "1|Who?|No.|not_entailment"),
        [("Who?", "Ann."), ("Who?", "No.")],
        ENTAILMENT,
        {"question": ["Who?", "Who?"], "sentence": ["Ann.", "No."], "label": [0, 1], "idx": [0, 1]},
        ENTAILMENT,
    ),
    "glue/rte": Fixture(
        "train",
        "RTE/train.tsv",
        tsv("index|sentence1|sentence2|label", "0|A died.|A lived.|entailment", "1|A ran.|A sat.|not_entailment"),
        [("A died.", "A lived."), ("A ran.", "A sat.")],
        ENTAILMENT,
        {"sentence1": ["A died.", "A ran."], "sentence2": ["A lived.", "A sat."], "label": [0, 1], "idx": [0, 1]},
        ENTAILMENT,
    ),
    "glue/wnli": Fixture(
        "train",
        "WNLI/train.tsv",
        tsv("index|sentence1|sentence2|label", "0|It fell.|Ice fell.|1", "1|It fell.|I fell.|0"),
        [("It fell.", "Ice fell."), ("It fell.", "I fell.")],
        ["entailment", "not_entailment"],
        {"sentence1": ["It fell."] * 2, "sentence2": ["Ice fell.", "I fell."], "label": [1, 0], "idx": [0, 1]},
        ["not_entailment", "entailment"],
    ),
    "glue/ax": Fixture(
        "test",
        "diagnostic/diagnostic.tsv",
        tsv("index|sentence1|sentence2", "0|The cat sat.|It did not sit.", "1|It did not sit.|The cat sat."),
        [("The cat sat.", "It did not sit."), ("It did not sit.", "The cat sat.")],
        [None, None],
        {
            "premise": ["The cat sat.", "It did not sit."],
            "hypothesis": ["It did not sit.", "The cat sat."],
            "label": [-1, -1],
            "idx": [0, 1],
        },
        NLI,
    ),
    "hans": Fixture(
        "validation",
        "heuristics_evaluation_set.txt",
        tsv(
            HANS_HEADER,
            "non-entailment|(|(|(|(|I saw A.|A saw I.|ex0|lexical_overlap|ln|temp1",
            "entailment|(|(|(|(|I saw A and B.|I saw B.|ex1|constituent|ce|temp2",
        ),
        [("I saw A.", "A saw I."), ("I saw A and B.", "I saw B.")],
        ["non-entailment", "entailment"],
        {
            "premise": ["I saw A.", "I saw A and B."],
            "hypothesis": ["A saw I.", "I saw B."],
            "label": [1, 0],
            "heuristic": ["lexical_overlap", "constituent"],
        },
        ["entailment", "non-entailment"],
    ),
    "squad": Fixture(
        "validation",
        "dev-v1.1.json",
        squad_json(WHO),
        [("Who ran?", "Ann ran.")],
        [(Answer("Ann", 0),)],
        {
            "id": ["q1"],
            "title": [""],
            "context": ["Ann ran."],
            "question": ["Who ran?"],
            "answers": [{"text": ["Ann"], "answer_start": [0]}],
        },
    ),
    "squad2": Fixture(
        "train",
        "squad2/train-v2.0.json",
        squad_json(WHO | {"is_impossible": False}, WHERE),
        [("Who ran?", "Ann ran."), ("Where?", "Ann ran.")],
        [(Answer("Ann", 0),), ()],
        {
            "id": ["q1", "q2"],
            "title": ["", ""],
            "context": ["Ann ran."] * 2,
            "question": ["Who ran?", "Where?"],
            "answers": [{"text": ["Ann"], "answer_start": [0]}, {"text": [], "answer_start": []}],
        },
    ),
    "conll2003": Fixture(
        "train",
        "eng.train",
        "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nin IN I-PP O\nAsia NNP I-NP I-LOC\nTokyo NNP B-NP B-LOC\n\n"
        "# # I-NP O\n",
        [("EU", "in", "Asia", "Tokyo"), ("#",)],
        [("B-ORG", "O", "B-LOC", "B-LOC"), ("O",)],
        {"id": ["0", "1"], "tokens": [["EU", "in", "Asia", "Tokyo"], ["#"]], "ner_tags": [[3, 0, 5, 5], [0]]},
        IOB2,
    ),
    "swag": Fixture(
        "validation",
        "val.csv",
        ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
        '0,v,1,"A ran. He","A ran.",He,gold,fell.,sat.,"stood, then sat.",ate.,2\n',
        [("A ran.", "He fell.", "He sat.", "He stood, then sat.", "He ate.")],
        [2],
        {
            "sent1": ["A ran."],
            "sent2": ["He"],
            "ending0": ["fell."],
            "ending1": ["sat."],
            "ending2": ["stood, then sat."],
            "ending3": ["ate."],
            "label": [2],
        },
        ["0", "1", "2", "3"],
    ),
}
