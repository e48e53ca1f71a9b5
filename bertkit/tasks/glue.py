"""GLUE (Wang et al. 2019), as the BERT paper fine-tunes on it; labels in the order of nyu-mll/glue on the Hub."""

from typing import Final

from bertkit.tasks.spec import FinetuneDefaults, GlueFiles, HubSource, Splits, TaskSpec

REPO: Final = "nyu-mll/glue"
PREDICT_TEST: Final = Splits(predict=("test",))
# The paper tries 2e-5 to 5e-5 and keeps the best on dev: small sets want more of it than large ones.
SMALL: Final = FinetuneDefaults(learning_rate=3e-5)
LARGE: Final = FinetuneDefaults(learning_rate=2e-5)
NLI_LABELS: Final = ("entailment", "neutral", "contradiction")

COLA = TaskSpec(
    name="glue/cola",
    problem="classification",
    texts=("sentence",),
    labels=("unacceptable", "acceptable"),
    source=HubSource(REPO, "cola"),
    files=GlueFiles("CoLA", texts=(3,), label=1, has_header=False),
    splits=PREDICT_TEST,
    metrics=("matthews", "accuracy"),
    defaults=SMALL,
    submission={"test": "CoLA.tsv"},
    submission_labels={"unacceptable": "0", "acceptable": "1"},
)

SST2 = TaskSpec(
    name="glue/sst2",
    problem="classification",
    texts=("sentence",),
    labels=("negative", "positive"),
    source=HubSource(REPO, "sst2"),
    files=GlueFiles("SST-2", texts=("sentence",), label="label"),
    splits=PREDICT_TEST,
    metrics=("accuracy",),
    defaults=LARGE,
    submission={"test": "SST-2.tsv"},
    submission_labels={"negative": "0", "positive": "1"},
)

MRPC = TaskSpec(
    name="glue/mrpc",
    problem="classification",
    texts=("sentence1", "sentence2"),
    labels=("not_equivalent", "equivalent"),
    source=HubSource(REPO, "mrpc"),
    files=GlueFiles("MRPC", texts=("#1 String", "#2 String"), label="Quality"),
    splits=PREDICT_TEST,
    metrics=("f1", "accuracy"),
    positive="equivalent",
    defaults=SMALL,
    submission={"test": "MRPC.tsv"},
    submission_labels={"not_equivalent": "0", "equivalent": "1"},
)

STSB = TaskSpec(
    name="glue/stsb",
    problem="regression",
    texts=("sentence1", "sentence2"),
    source=HubSource(REPO, "stsb"),
    files=GlueFiles("STS-B", texts=("sentence1", "sentence2"), label="score"),
    splits=PREDICT_TEST,
    metrics=("pearson", "spearman"),
    defaults=SMALL,
    submission={"test": "STS-B.tsv"},
)

QQP = TaskSpec(
    name="glue/qqp",
    problem="classification",
    texts=("question1", "question2"),
    labels=("not_duplicate", "duplicate"),
    source=HubSource(REPO, "qqp"),
    files=GlueFiles("QQP", texts=("question1", "question2"), label="is_duplicate"),
    splits=PREDICT_TEST,
    metrics=("f1", "accuracy"),
    positive="duplicate",
    defaults=LARGE,
    submission={"test": "QQP.tsv"},
    submission_labels={"not_duplicate": "0", "duplicate": "1"},
)

MNLI = TaskSpec(
    name="glue/mnli",
    problem="classification",
    texts=("premise", "hypothesis"),
    labels=NLI_LABELS,
    source=HubSource(REPO, "mnli"),
    files=GlueFiles("MNLI", texts=("sentence1", "sentence2"), label="gold_label"),
    splits=Splits(
        evaluate=("validation_matched", "validation_mismatched"), predict=("test_matched", "test_mismatched")
    ),
    metrics=("accuracy",),
    defaults=LARGE,
    submission={"test_matched": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
)

QNLI = TaskSpec(
    name="glue/qnli",
    problem="classification",
    texts=("question", "sentence"),
    labels=("entailment", "not_entailment"),
    source=HubSource(REPO, "qnli"),
    files=GlueFiles("QNLI", texts=("question", "sentence"), label="label"),
    splits=PREDICT_TEST,
    metrics=("accuracy",),
    defaults=LARGE,
    submission={"test": "QNLI.tsv"},
)

RTE = TaskSpec(
    name="glue/rte",
    problem="classification",
    texts=("sentence1", "sentence2"),
    labels=("entailment", "not_entailment"),
    source=HubSource(REPO, "rte"),
    files=GlueFiles("RTE", texts=("sentence1", "sentence2"), label="label"),
    splits=PREDICT_TEST,
    metrics=("accuracy",),
    defaults=SMALL,
    submission={"test": "RTE.tsv"},
)

WNLI = TaskSpec(
    name="glue/wnli",
    problem="classification",
    texts=("sentence1", "sentence2"),
    labels=("not_entailment", "entailment"),
    source=HubSource(REPO, "wnli"),
    files=GlueFiles("WNLI", texts=("sentence1", "sentence2"), label="label"),
    splits=PREDICT_TEST,
    metrics=("accuracy",),
    defaults=SMALL,
    submission={"test": "WNLI.tsv"},
    submission_labels={"not_entailment": "0", "entailment": "1"},
)

# The diagnostic set: its labels are the leaderboard's secret.
AX = TaskSpec(
    name="glue/ax",
    problem="classification",
    texts=("premise", "hypothesis"),
    labels=NLI_LABELS,
    source=HubSource(REPO, "ax"),
    files=GlueFiles(
        "AX",
        texts=("sentence1", "sentence2"),
        label=None,
        names={"test": ("diagnostic.tsv", "AX.tsv", "diagnostic/diagnostic.tsv", "test.tsv")},
    ),
    splits=Splits(train=None, evaluate=(), predict=("test",)),
    metrics=("matthews", "accuracy"),
    submission={"test": "AX.tsv"},
    scored_with="glue/mnli",
)

TASKS: Final = (COLA, SST2, MRPC, STSB, QQP, MNLI, QNLI, RTE, WNLI, AX)
