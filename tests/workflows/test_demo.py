"""The whole story in one call: corpus, BERT, filled mask, task; and again, from what is there."""

from pathlib import Path

from bertkit.config.load import find_recipe, load_config
from bertkit.config.schema import PretrainConfig
from bertkit.workflows import demo as demo_workflow
from bertkit.workflows.demo import demo

SETTINGS = ["train.max_minutes=null", "train.max_steps=3", "data.tokenizer.vocab_size=200", "data.num_workers=1"]


def write_small_corpus(folder: Path) -> None:
    from test_demo_task import write_corpus

    folder.mkdir(parents=True)
    write_corpus(folder / "docstrings.jsonl", ["numpy", "scipy"])


def test_the_demo_ends_with_a_task_scored_beside_its_majority_and_goes_on_from_what_is_there(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "data")
    monkeypatch.setattr(demo_workflow, "write_demo_corpus", write_small_corpus)
    config = load_config(PretrainConfig, find_recipe("demo"), settings=SETTINGS)
    first = demo(config, tmp_path / "demo")
    assert len(first.filled) == 2
    assert first.finetuning.results["scores"]["eval"]["accuracy"] >= 0
    assert first.task.majority == 0.5
    again = demo(config, tmp_path / "demo")
    assert again.finetuning.results == first.finetuning.results
