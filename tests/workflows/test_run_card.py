"""The card of a run says what its results and its config say, honestly, and names no place of this machine."""

import json
import shutil

import pytest
import yaml
from hub_server import _CARD, _metadata_errors
from toy_finished import write_finetuned, write_pretrained

from bertkit.errors import CheckpointError, ConfigError, HubError
from bertkit.workflows.card import card, card_picture, portable_config
from bertkit.workflows.plots import write_plots
from bertkit.workflows.published import published_run
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.suite import read_suite


@pytest.fixture(scope="module")
def pretrained(corpus_dir, tmp_path_factory):
    return write_pretrained(corpus_dir, tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return write_finetuned(tmp_path_factory.mktemp("tasks"), seeds=2)


@pytest.fixture
def own_suite(suite, tmp_path):
    """A copy whose results a test may change."""
    return shutil.copytree(suite, tmp_path / "classification")


def metadata(text):
    found = yaml.safe_load(_CARD.match(text)[1])
    assert _metadata_errors(found) == []
    return found


def change(folder, run, **values):
    """Changes the results of one run of a suite, in both places where they are."""
    for path in (folder / "results.json", folder / run / "results.json"):
        results = json.loads(path.read_text())
        inner = results["runs"][run] if "runs" in results else results
        inner |= values
        path.write_text(json.dumps(results))


def test_a_pretrained_model_is_told_with_what_its_scores_must_beat(pretrained):
    text = card(pretrained)
    found = metadata(text)
    heldout = json.loads((pretrained / "results.json").read_text())["heldout"]
    assert found["pipeline_tag"] == "fill-mask"
    assert "language" not in found
    told = [m["name"] for m in found["model-index"][0]["results"][0]["metrics"]]
    assert told == ["Masked LM loss", "Perplexity", "Masked LM accuracy"]
    assert "Next sentence accuracy" in text
    assert f"{heldout['unigram_entropy']:.3f} (word frequencies alone)" in text
    assert "(always the same answer)" in text


def test_the_card_tells_where_the_model_comes_from(pretrained):
    text = card(pretrained)
    known = json.loads((pretrained / "results.json").read_text())["provenance"]
    for said in (
        known["data"]["fingerprint"],
        f"{known['data']['documents']:,} documents",
        f"{known['parameters']:,} parameters",
        known["hardware"]["processor"].split("_")[0],
        "precision | fp32",
        "energy | not measured",
        "bertkit pytest" if "pytest" in known["command"] else known["command"][0],
    ):
        assert said in text


def test_no_path_of_this_machine_is_on_a_card(pretrained, suite, tmp_path_factory):
    base = str(tmp_path_factory.getbasetemp())
    for folder in (pretrained, suite, suite / "seed-1"):
        assert base not in card(folder)
        run = published_run(folder).run
        assert base in run.config_file.read_text()
        assert base not in portable_config(run)


def test_an_old_run_without_provenance_has_a_card_that_invents_nothing(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "old")
    results = json.loads((run / "results.json").read_text())
    del results["provenance"]
    (run / "results.json").write_text(json.dumps(results))
    text = card(run)
    assert text.count("not recorded") >= 6
    assert "The command was not recorded." in text
    assert "```bash" not in text
    assert metadata(text)["pipeline_tag"] == "fill-mask"


def test_seeds_have_a_mean_and_a_deviation_on_the_card_of_each_and_of_all(suite):
    values = [
        json.loads((suite / f"seed-{seed}/results.json").read_text())["scores"]["heldout"]["accuracy"]
        for seed in (0, 1)
    ]
    middle, spread = sum(values) / 2, abs(values[0] - values[1]) / 2**0.5
    for folder in (suite, suite / "seed-0", suite / "seed-1"):
        text = card(folder)
        assert f"{100 * middle:.2f} % ± {100 * spread:.2f} % (2 seeds)" in text
        assert "one of 0, 1" in text


def test_of_several_runs_the_best_is_published_and_said_to_be(own_suite):
    change(own_suite, "seed-1", scores={"heldout": {"accuracy": 0.99, "macro_f1": 0.9, "num_examples": 12}})
    change(own_suite, "seed-0", scores={"heldout": {"accuracy": 0.5, "macro_f1": 0.4, "num_examples": 12}})
    published = published_run(own_suite)
    assert published.run.path.name == "seed-1"
    assert published.title == "classification"
    text = card(own_suite)
    assert "seed-1 is the best of 2 seeds by heldout\\_accuracy." in text
    assert metadata(text)["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.99


def test_a_named_run_of_several_is_not_called_chosen(suite):
    assert "is the best of" not in card(suite / "seed-0")


def test_a_collapsed_run_is_named(own_suite):
    change(own_suite, "seed-1", collapsed="every example got the label 'x'")
    assert "1 of 2 seeds collapsed: seed-1." in card(own_suite / "seed-0")
    assert "This run collapsed: every example got the label 'x'. Do not use it." in card(own_suite / "seed-1")


def test_the_cells_of_a_grid_have_no_mean(own_suite):
    results = json.loads((own_suite / "results.json").read_text())
    runs = {f"batch{8 * (place + 1)}-rate1-epochs1": run for place, run in enumerate(results["runs"].values())}
    for place, name in enumerate(runs):
        (own_suite / f"seed-{place}").rename(own_suite / name)
    (own_suite / "results.json").write_text(json.dumps({"runs": runs}))
    text = card(own_suite)
    assert "mean ± deviation" not in text
    assert "the best of 2 settings" in text
    assert "chosen on the data it is scored on" in text


def test_several_tasks_have_no_one_card(own_suite):
    change(own_suite, "seed-1", task="glue/cola")
    with pytest.raises(CheckpointError, match="holds runs of 2 tasks: name one run"):
        card(own_suite)


@pytest.mark.parametrize(
    "problem", ["classification", "regression", "multi_label", "tagging", "span_qa", "multiple_choice"]
)
def test_every_kind_of_problem_has_a_card_the_hub_takes(problem, tmp_path):
    text = card(write_finetuned(tmp_path, problem), repo_id="ann/x", license="mit", language="de")
    found = metadata(text)
    assert found["model-index"][0]["results"][0]["metrics"]
    assert (found["license"], found["language"]) == ("mit", "de")
    assert '"ann/x"' in text


def test_figures_of_squad_2_are_named_as_its_own_words_are_written(tmp_path):
    run = write_finetuned(tmp_path, "span_qa")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    (split,) = results["scores"]
    names = ("HasAns_f1", "HasAns_exact", "NoAns_f1", "NoAns_exact")
    results["scores"][split] |= dict.fromkeys(names, 50.0)
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    text = card(run)
    written = {m["type"]: m["name"] for m in metadata(text)["model-index"][0]["results"][0]["metrics"]}
    said = ("HasAns F1", "HasAns exact match", "NoAns F1", "NoAns exact match")
    assert [written[name] for name in names] == list(said)
    assert all(f"| {split} | {name} | 50.00 |" in text for name in said)


def test_a_named_task_has_its_data_set_on_the_hub(own_suite):
    for seed in ("seed-0", "seed-1"):
        change(own_suite, seed, task="glue/sst2")
    found = metadata(card(own_suite))
    assert found["datasets"] == ["nyu-mll/glue"]
    dataset = found["model-index"][0]["results"][0]["dataset"]
    assert (dataset["type"], dataset["config"]) == ("nyu-mll/glue", "sst2")


def test_the_curves_of_the_run_are_shown_and_drawn_where_they_are_not(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run", ignore=shutil.ignore_patterns("plots"))
    before = sorted(run.rglob("*"))
    assert "![Training curves](plots/training.png)" in card(run)
    assert sorted(run.rglob("*")) == before


def test_a_picture_drawn_before_the_end_is_not_published(pretrained, tmp_path):
    run = RunFolder(shutil.copytree(pretrained, tmp_path / "run"))
    whole = run.metrics_file.read_text()
    run.metrics_file.write_text("".join(whole.splitlines(keepends=True)[:1]))
    (early,) = [path.read_bytes() for path in write_plots(run) if path.name == "training.png"]
    run.metrics_file.write_text(whole)
    assert card_picture(run) not in (None, early)
    final = {path.name: path.read_bytes() for path in write_plots(run, tmp_path / "plots")}
    assert card_picture(run) == final["training.png"]


def test_a_card_in_a_file_links_no_picture_that_is_not_beside_it(pretrained, tmp_path):
    output = tmp_path / "out" / "README.md"
    assert "![" not in card(pretrained, output=output)
    write_plots(RunFolder(pretrained), output.parent / "plots")
    assert "![Training curves](plots/training.png)" in card(pretrained, output=output)


def test_a_run_whose_curves_cannot_be_drawn_has_a_card_without_them(pretrained, tmp_path, monkeypatch):
    def fail(run):
        raise CheckpointError("its metrics are damaged")

    run = shutil.copytree(pretrained, tmp_path / "run", ignore=shutil.ignore_patterns("plots"))
    monkeypatch.setattr("bertkit.workflows.card.training_plot", fail)
    assert "![" not in card(run)
    (run / "plots").mkdir()
    (run / "plots" / "training.png").write_bytes(b"drawn earlier")
    assert card_picture(RunFolder(run)) == b"drawn earlier"


def test_a_language_is_told_where_somebody_chose_it(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    values = yaml.safe_load((run / "config.yaml").read_text())
    values["data"]["language"] = "de"
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    assert metadata(card(run))["language"] == "de"
    assert metadata(card(run, language="nl"))["language"] == "nl"


def test_a_continued_model_names_what_it_was_and_claims_no_more_than_it_read(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    known = results["provenance"]
    amount = f"{known['data']['documents']:,} documents ({known['data']['tokens']:,} tokens)"
    known["tokens"] = known["data"]["tokens"] - 1
    (run / "results.json").write_text(json.dumps(results))
    text = card(run)
    assert f"Its corpus holds {amount}, of which it read {known['tokens']:,} tokens at most, against" in text
    known["tokens"] += 1
    known["base"] = {"name": "old-bert", "hub_id": None}
    (run / "results.json").write_text(json.dumps(results))
    text = card(run)
    assert "continued from old-bert with masked language modelling" in text
    assert f"It has read {amount}; whatever else it knows or lacks comes from old-bert" in text
    assert "little else" not in text


@pytest.mark.parametrize(
    "damage",
    [
        {"provenance": {"data": None}},
        {"provenance": {"hardware": {"devices": []}}},
        {"provenance": {"data": {"name": "x"}}},
        {"provenance": {"command": 3}},
        {"elapsed_s": float("nan"), "provenance": {}},
        {"heldout": {"mlm_loss": 1.0}},
    ],
)
def test_damaged_results_of_pre_training_are_one_line(damage, pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    results = json.loads((run / "results.json").read_text()) | damage
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(CheckpointError, match="cannot be described, its results.json or config.yaml is damaged"):
        card(run)


@pytest.mark.parametrize(
    "damage", [{"scores": {}}, {"problem": "poetry"}, {"provenance": {"packages": [], "bertkit": 1}}]
)
def test_damaged_results_of_fine_tuning_are_one_line(damage, own_suite):
    change(own_suite, "seed-0", **damage)
    with pytest.raises(CheckpointError, match=r"damaged"):
        card(own_suite / "seed-0")


def test_a_figure_that_is_text_is_one_line_before_the_best_run_is_chosen(own_suite):
    change(own_suite, "seed-0", scores={"heldout": {"accuracy": "x"}})
    with pytest.raises(CheckpointError, match=r"results\.json is damaged"):
        card(own_suite)


def test_a_damaged_config_is_one_line(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    (run / "config.yaml").write_text("corpus: x\n")
    with pytest.raises(ConfigError, match=r"run/config\.yaml: train: field required"):
        card(run)


def test_an_empty_config_of_fine_tuning_is_not_blamed_on_the_results(own_suite):
    (own_suite / "seed-0/config.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"seed-0/config\.yaml: train: field required"):
        card(own_suite / "seed-0")


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
def test_a_run_that_lost_what_it_is_known_by_is_not_taken_for_several(name, pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(CheckpointError, match=f"run is a run without its {name}: put it back"):
        card(run)
    with pytest.raises(CheckpointError, match=f"run is a run without its {name}: put it back"):
        read_suite(run)


def test_a_card_needs_no_export(own_suite):
    text = card(own_suite / "seed-0")
    (own_suite / "seed-0/export/config.json").unlink()
    assert card(own_suite / "seed-0") == text
    shutil.rmtree(own_suite / "seed-0/export")
    assert card(own_suite / "seed-0") == text
    (own_suite / "seed-0/pinned.json").unlink()
    with pytest.raises(CheckpointError, match=r"seed-0/export is gone: put it back, or remove .*results\.json"):
        card(own_suite / "seed-0")


def test_a_run_without_a_row_in_its_log_has_a_card_without_curves(pretrained, tmp_path):
    run = RunFolder(shutil.copytree(pretrained, tmp_path / "run"))
    write_plots(run)
    assert "![" in card(run.path)
    run.metrics_file.write_text("garbage", encoding="utf-8")
    assert "![" not in card(run.path)
    run.metrics_file.unlink()
    assert "![" not in card(run.path)


def test_what_is_no_number_is_said_and_kept_from_the_metadata(own_suite):
    scores = {"accuracy": 0.5, "macro_f1": float("nan"), "loss": float("inf")}
    change(own_suite, "seed-0", scores={"heldout": scores})
    text = card(own_suite / "seed-0")
    assert [m["type"] for m in metadata(text)["model-index"][0]["results"][0]["metrics"]] == ["accuracy"]
    assert "| Macro F1 | not a number |" in text
    assert "| Loss | infinite |" in text


def test_stricter_and_second_figures_are_in_the_table_alone(own_suite):
    scores = {"macro_f1": 0.5, "micro_f1": 0.6, "strict_precision": 0.7}
    change(own_suite, "seed-0", scores={"heldout": scores})
    text = card(own_suite / "seed-0")
    assert [m["name"] for m in metadata(text)["model-index"][0]["results"][0]["metrics"]] == ["Macro F1"]
    assert "Micro F1" in text
    assert "Strict precision" in text


def test_labels_that_are_mostly_missed_are_named(own_suite):
    table = {name: {"recall": recall, "support": 9} for name, recall in (("cat", 0.4), ("dog", 0.9), ("fox", 0.1))} | {
        "owl": {"recall": 0.0, "support": 0}
    }
    for found in ({"per_label": table}, {"per_type": {n: {**r, "gold": r["support"]} for n, r in table.items()}}):
        change(own_suite, "seed-0", scores={"heldout": {"accuracy": 0.5, "num_examples": 27, **found}})
        assert "It finds less than half of these (recall): fox, cat." in card(own_suite / "seed-0")


def test_the_card_can_be_written_to_a_file(pretrained, tmp_path):
    text = card(pretrained, output=tmp_path / "new" / "README.md")
    assert (tmp_path / "new" / "README.md").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"license": "Apache 2"}, "is no license identifier"),
        ({"language": "English"}, "is no language code"),
        ({"repo_id": "a/b/c"}, "is no repository"),
    ],
)
def test_what_cannot_be_an_identifier_is_refused(options, said, pretrained):
    with pytest.raises(HubError, match=said):
        card(pretrained, **options)


def test_what_is_not_finished_has_no_card(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "run")
    (run / "results.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged: run bertkit evaluate"):
        card(run)
    (run / "results.json").unlink()
    with pytest.raises(CheckpointError, match="is not finished: run the same bertkit pretrain command again"):
        card(run)
    with pytest.raises(CheckpointError, match="is not a run folder"):
        card(tmp_path)


def test_the_published_config_is_a_recipe_without_what_belongs_to_a_machine(pretrained):
    found = yaml.safe_load(portable_config(RunFolder(pretrained)))
    assert found["corpus"] == "corpus0"
    assert "num_workers" not in found["data"]
    assert "cluster" not in found["data"] or "ray_address" not in found["data"]["cluster"]
    assert found["model"]["hidden_size"] == 32
