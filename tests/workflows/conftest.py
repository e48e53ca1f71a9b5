"""Runs that are read by several files of tests, each made when a test first asks; those that change one copy it."""

import pytest
from toy_finished import write_pretrained
from toy_objectives import BILSTM, write_finetuned_from


@pytest.fixture(scope="session")
def pretrained_run(corpus_dir, tmp_path_factory):
    """By objective, a finished run of pre-training, all of them on one corpus."""
    folder, made = tmp_path_factory.mktemp("objectives"), {}

    def of(objective):
        if objective not in made:
            made[objective] = write_pretrained(corpus_dir, folder / objective.replace("+", "-"), objective=objective)
        return made[objective]

    return of


@pytest.fixture(scope="session")
def finetuned_run(pretrained_run, tmp_path_factory):
    """A finished run of fine-tuning by objective and problem, or by "features" of a frozen BERT under a BiLSTM."""
    folder, made = tmp_path_factory.mktemp("tuned"), {}

    def of(objective, problem="classification"):
        if (objective, problem) not in made:
            changes = {"model__bilstm": BILSTM, "model__freeze": "encoder"} if objective == "features" else {}
            base = pretrained_run("mlm+nsp" if changes else objective)
            made[objective, problem] = write_finetuned_from(base, folder / f"{objective}-{problem}", problem, **changes)
        return made[objective, problem]

    return of
