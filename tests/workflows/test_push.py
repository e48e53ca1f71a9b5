"""A finished run goes to a hub and comes back as the same model; nothing else of the run goes with it."""

import json
import shutil

import pytest
import torch
from hub_server import TOKEN, hub_server, use_hub
from toy_finished import write_finetuned, write_pretrained
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.errors import CheckpointError, ConfigError
from bertkit.hub import upload as upload_module
from bertkit.hub.upload import RepoFile
from bertkit.workflows.push import INCLUDABLE, planned_push, push
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.sound import require_sound

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

MODEL = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
PUSHED = sorted(["README.md", "plots/training.png", *MODEL])
runner = CliRunner()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_server() as hub:
        use_hub(hub, monkeypatch, tmp_path)
        monkeypatch.setattr(upload_module, "_WAITS_S", (0.0,))
        yield hub


@pytest.fixture(scope="module")
def pretrained(corpus_dir, tmp_path_factory):
    return write_pretrained(corpus_dir, tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return write_finetuned(tmp_path_factory.mktemp("tasks"), seeds=2)


def logits(model, tokenizer):
    with torch.no_grad():
        return model(**tokenizer("the cat sat on the mat", return_tensors="pt")).logits


def cli(*arguments):
    return runner.invoke(app, ["push-to-hub", *map(str, arguments)])


def test_a_fine_tuned_model_comes_back_with_its_logits_its_labels_and_its_task(suite, hub):
    run = suite / "seed-0"
    push(run, "ann/animals")
    assert hub.paths("ann/animals") == PUSHED
    model = AutoModelForSequenceClassification.from_pretrained("ann/animals")
    own = AutoModelForSequenceClassification.from_pretrained(run / "export")
    tokenizer = AutoTokenizer.from_pretrained("ann/animals")
    assert torch.equal(logits(model, tokenizer), logits(own, AutoTokenizer.from_pretrained(run / "export")))
    assert set(model.config.id2label.values()) == {"animal", "nothing"}
    assert model.config.bertkit["problem"] == "classification"
    assert pipeline("text-classification", model="ann/animals")("the cat sat")[0]["label"] in ("animal", "nothing")


def test_a_pre_trained_model_comes_back_with_its_logits(pretrained, hub):
    push(pretrained, "base")
    model, own = (AutoModelForMaskedLM.from_pretrained(place) for place in ("ann/base", pretrained / "export"))
    tokenizer = AutoTokenizer.from_pretrained("ann/base")
    assert torch.equal(logits(model, tokenizer), logits(own, tokenizer))
    assert pipeline("fill-mask", model="ann/base")("the [MASK] sees the dog.")


def test_a_model_of_questions_carries_its_threshold(tmp_path, hub):
    run = write_finetuned(tmp_path, "span_qa")
    push(run, "ann/answers")
    threshold = json.loads((run / "results.json").read_text())["options"]["null_threshold"]
    assert threshold is not None
    assert AutoModelForQuestionAnswering.from_pretrained("ann/answers").config.bertkit["null_threshold"] == threshold


def test_our_classes_come_back_with_their_code(suite, hub):
    run = suite / "seed-0"
    push(run, "ann/coded", format="bertkit")
    assert {"modeling_bertkit.py", "configuration_bertkit.py"} <= set(hub.paths("ann/coded"))
    assert "trust_remote_code=True" in hub.content("ann/coded", "README.md").decode()
    config = json.loads(hub.content("ann/coded", "config.json"))
    assert config["model_type"] == "bertkit"
    assert config["auto_map"]["AutoModelForSequenceClassification"].endswith("BertKitForSequenceClassification")


def test_of_several_seeds_the_best_goes_up_and_it_is_said(suite, hub, caplog):
    with caplog.at_level("INFO", logger="bertkit"):
        summary = push(suite, "ann/best")
    assert "is the best of 2 seeds by heldout_accuracy: this is the run that goes up" in caplog.text
    assert "is the best of 2 seeds" in hub.content("ann/best", "README.md").decode()
    weights = (summary.plan.run.export / "model.safetensors").read_bytes()
    assert hub.content("ann/best", "model.safetensors") == weights


def test_a_collapsed_run_goes_up_with_a_warning(suite, hub, tmp_path, caplog):
    run = shutil.copytree(suite / "seed-0", tmp_path / "run")
    results = json.loads((run / "results.json").read_text()) | {"collapsed": "nothing was found in any example"}
    (run / "results.json").write_text(json.dumps(results))
    push(run, "ann/collapsed")
    assert "the run collapsed (nothing was found in any example)" in caplog.text
    assert "Do not use it." in hub.content("ann/collapsed", "README.md").decode()


def test_data_optimizer_predictions_and_logs_stay_here(pretrained, suite, hub, tmp_path):
    for run in (pretrained, suite / "seed-0"):
        copy = shutil.copytree(run, tmp_path / "copy" / run.name)
        for name in ("optimizer.pt", "data.csv", "secret.txt", "train.arrow"):
            (copy / "export" / name).write_text("canary")
        push(copy, f"ann/{run.name}")
        assert hub.paths(f"ann/{run.name}") == PUSHED


def test_more_goes_up_only_when_asked_for_and_without_a_path(pretrained, suite, hub, tmp_path_factory):
    push(pretrained, "ann/all", include=("config", "results", "logs", "plots", "checkpoint"))
    paths = set(hub.paths("ann/all"))
    assert {"config.yaml", "results.json", "metrics.jsonl", "plots/training.svg"} <= paths
    assert any(path.endswith("optimizer.safetensors") for path in paths)
    push(suite / "seed-0", "ann/tuned", include=["predictions"])
    assert set(hub.paths("ann/tuned")) - set(PUSHED) == {"predictions.jsonl"}
    base = str(tmp_path_factory.getbasetemp()).encode()
    for repo_id in ("ann/all", "ann/tuned"):
        assert not [path for path in hub.paths(repo_id) if base in hub.content(repo_id, path)]


def test_what_there_is_not_cannot_be_included(suite, pretrained):
    with pytest.raises(ConfigError, match=r"--include prediction is nothing of a run: did you mean 'predictions'\?"):
        planned_push(suite / "seed-0", "ann/x", include=["prediction"]).__enter__()
    with pytest.raises(CheckpointError, match="has no checkpoint any more"):
        planned_push(suite / "seed-0", "ann/x", include=["checkpoint"]).__enter__()
    with pytest.raises(CheckpointError, match="leave out --include predictions"):
        planned_push(pretrained, "ann/x", include=["predictions"]).__enter__()
    assert "predictions" in INCLUDABLE


def test_a_model_that_is_not_the_runs_never_leaves(pretrained, tmp_path):
    from safetensors.torch import load_file, save_file

    run = shutil.copytree(pretrained, tmp_path / "run")
    weights = run / "export" / "model.safetensors"
    tensors = load_file(weights)
    tensors["bert.embeddings.word_embeddings.weight"][:, 0] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="its logits differ"):
        require_sound(RunFolder(run))


def test_an_export_that_is_damaged_never_leaves(suite, tmp_path):
    from safetensors.torch import load_file, save_file

    run = shutil.copytree(suite / "seed-0", tmp_path / "run")
    weights = run / "export" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["classifier.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights, such as classifier\.weight"):
        require_sound(RunFolder(run))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="does not open in transformers"):
        require_sound(RunFolder(run))
    shutil.rmtree(run / "export")
    with pytest.raises(
        CheckpointError, match=r"run is finished, but .*export is gone: put it back, or remove .*results"
    ):
        require_sound(RunFolder(run))


def test_without_room_for_a_copy_the_line_says_so(suite, monkeypatch):
    def full(**how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bertkit.workflows.push.TemporaryDirectory", full)
    with pytest.raises(CheckpointError, match="no temporary folder can be made"):
        planned_push(suite / "seed-0", "ann/x", format="bertkit").__enter__()
    with planned_push(suite / "seed-0", "ann/x") as plan:
        assert {file.path for file in plan.files} == set(PUSHED)


def test_a_dry_run_lists_files_and_prints_the_card_without_a_network(suite, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was made"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    result = cli(suite / "seed-0", "ann/x", "--dry-run")
    assert result.exit_code == 0, result.output
    for said in (*PUSHED, "in all", "library_name: transformers", '"ann/x"'):
        assert said in result.stdout
    found = json.loads(cli(suite / "seed-0", "ann/x", "--dry-run", "--json").stdout)
    assert sorted(file["path"] for file in found["files"]) == PUSHED
    assert all(file["size"] > 0 for file in found["files"])


def test_the_result_is_for_people_or_for_machines(suite, hub):
    assert cli(suite / "seed-0", "ann/x").stdout.startswith(f"{hub.url}/ann/x: 6 files, ")
    assert "were there already" in cli(suite / "seed-0", "ann/x").stdout
    found = json.loads(cli(suite / "seed-0", "ann/x", "--json").stdout)
    assert found["is_new"] is False
    assert found["commit_url"].startswith(hub.url)


def test_a_readme_that_people_edited_stays_until_its_place_is_asked_for(suite, hub):
    run = suite / "seed-0"
    push(run, "ann/x")
    upload_module.upload("ann/x", [RepoFile.of("README.md", b"---\nlicense: mit\n---\nOurs.\n")], message="by hand")
    result = cli(run, "ann/x", "--license", "mit")
    assert result.exit_code == 0, result.output
    assert "--include card puts the card in its place" in " ".join(result.stderr.split())
    assert hub.content("ann/x", "README.md").endswith(b"Ours.\n")
    assert json.loads(cli(run, "ann/x", "--json").stdout)["keeps_card"] is True
    assert cli(run, "ann/x", "--include", "card").exit_code == 0
    assert b"Ours." not in hub.content("ann/x", "README.md")


def test_a_card_that_nobody_edited_is_written_anew(suite, hub):
    push(suite / "seed-0", "ann/x")
    assert not push(suite / "seed-0", "ann/x", license="mit").uploaded.keeps_card
    assert b"license: mit" in hub.content("ann/x", "README.md")


def test_stock_weights_over_ours_take_our_code_away(suite, hub):
    push(suite / "seed-0", "ann/x", format="bertkit")
    upload_module.upload("ann/x", [RepoFile.of("theirs.py", b"1")], message="by hand")
    removed = push(suite / "seed-0", "ann/x").uploaded.removed
    assert "modeling_bertkit.py" in removed
    assert hub.paths("ann/x") == sorted([*PUSHED, "theirs.py"])


def test_the_address_of_a_branch_is_the_branchs(suite, hub):
    assert cli(suite / "seed-0", "ann/x", "--revision", "v2").stdout.startswith(f"{hub.url}/ann/x/tree/v2: ")


def test_a_push_draws_nothing_into_the_run(suite, tmp_path):
    run = shutil.copytree(suite / "seed-0", tmp_path / "run", ignore=shutil.ignore_patterns("plots"))
    before = sorted(run.rglob("*"))
    with planned_push(run, "ann/x", include=["plots"]) as plan:
        assert {"plots/training.png", "plots/training.svg"} <= {file.path for file in plan.files}
    assert sorted(run.rglob("*")) == before


def test_the_newest_run_is_pushed_where_none_is_named(suite, hub, monkeypatch, tmp_path):
    shutil.copytree(suite / "seed-1", tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    assert cli("ann/newest").exit_code == 0
    assert json.loads(hub.content("ann/newest", "config.json"))["bertkit"]["problem"] == "classification"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN"], "is a run: the repository comes last, as in bertkit push-to-hub"),
        (["ann/x", "RUN"], "is a run: the repository comes last"),
        (["RUN", "ann/x", "more"], "3 names were given"),
        (["RUN", "a/b/c"], "is no repository"),
        (["nowhere", "ann/x"], "is not a run folder"),
        (["RUN", "ann/x", "--include", "data"], "is nothing of a run"),
        (["RUN", "ann/x", "--revision", "b", "--create-pr"], "leave out --revision"),
        (["RUN", "RUN"], "seed-0 YOUR-NAME/seed-0"),
        (["RUN", "ann/x", "--revision", "a b"], "is no branch"),
        (["RUN", "ann/x", "--license", "Do What You Want"], "is no license identifier"),
        (["RUN", "ann/x", "--license", "gpl-17"], "the Hub refuses the metadata of the card"),
        (["RUN", "bob/x"], "the token may not write to bob/x"),
    ],
)
def test_a_mistake_is_one_red_line(arguments, said, suite, hub):
    run = str(suite / "seed-0")
    result = cli(*(run if each == "RUN" else each for each in arguments))
    assert result.exit_code == 2
    assert said in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in result.output


def test_the_token_is_nowhere(suite, hub, tmp_path, caplog, capfd):
    run = shutil.copytree(suite / "seed-0", tmp_path / "run")
    hub.fail("POST", "repos/create", status=503)
    with caplog.at_level("DEBUG"):
        said = cli(run, "ann/x", "--include", "results", "--include", "config", "--json").output
        said += cli(run, "bob/x").output + "".join(capfd.readouterr())
    assert "trying again" in said
    assert "signaturecanary" not in said
    assert caplog.text
    assert TOKEN not in said + caplog.text
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in content for content in [*written, *hub.blobs.values()])
