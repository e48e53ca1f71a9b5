"""No code of anyone's is run, no secret is kept or said: looked for in the source, and tried."""

import ast
import json
import logging
import pickle
import shutil
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from hostile import refused, run
from hostile_inputs import SMALL_RUN
from toy_corpus import write_corpus
from toy_encoder import PIECES
from toy_heads import write_head
from toy_tasks import write_bert, write_examples
from transformers import BertTokenizer

import bertkit
from bertkit.config.load import load_config
from bertkit.config.schema import PretrainConfig
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import BertkitError, ConfigError, CorpusError, HubError, redacted

SOURCES = sorted(Path(bertkit.__file__).parent.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {
    "os.system", "os.popen", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader",
    "yaml.UnsafeLoader", "yaml.FullLoader", "torch.hub.load",
}  # fmt: skip
FORBIDDEN_ARGUMENTS = {"allow_pickle": True, "shell": True, "trust_remote_code": True, "weights_only": False}
# What opens a model or a tokenizer by an Auto class must say that no code beside it is run, or a terminal is asked.
ASKS_ABOUT_CODE = {"AutoConfig", "AutoTokenizer", "AutoModel"}

SECRET, TOKEN = "s3cr3tS1gnature", "AbCdEfGhIjKlMnOpQrStUvWx"
SIGNED = f"memory://user:{SECRET}@bucket/corpus.txt?X-Amz-Signature={SECRET}"


def offences(tree):
    """What the source of a module does that it must not, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"{node.lineno}: import {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_METHODS:
            yield f"{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node):
    called, arguments = ast.unparse(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
    if called in FORBIDDEN_CALLS:
        yield f"{node.lineno}: {called}()"
    for name, value in arguments.items():
        if name in FORBIDDEN_ARGUMENTS and not _is(value, not FORBIDDEN_ARGUMENTS[name]):
            yield f"{node.lineno}: {name}={ast.unparse(value)}"
    if called == "torch.load" and not _is(arguments.get("weights_only"), True):
        yield f"{node.lineno}: torch.load without weights_only=True"
    if called in {f"{name}.from_pretrained" for name in ASKS_ABOUT_CODE} and "trust_remote_code" not in arguments:
        yield f"{node.lineno}: {called} without trust_remote_code=False"


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_source_unpickles_nothing_runs_no_shell_and_trusts_no_code(path):
    assert not list(offences(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "load_dataset(name, trust_remote_code=True)",
        "AutoTokenizer.from_pretrained(path)",
    ],
)
def test_what_is_looked_for_in_the_source_is_found(source):
    assert list(offences(ast.parse(source)))


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code from outside was run"


def test_the_canary_sings_when_it_is_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "sung")))
    assert (tmp_path / "sung").exists()


def test_weights_that_are_a_pickle_are_refused(tmp_path, canary):
    folder = write_head(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"bert.embeddings.word_embeddings.weight": Canary(canary)}, folder / "pytorch_model.bin")
    line = refused("predict", folder, "--sentence", "the cat")
    assert "cannot be opened" in line
    bert = write_bert(tmp_path / "bert")
    (bert / "model.safetensors").unlink()
    shutil.copy(folder / "pytorch_model.bin", bert)
    train = write_examples(tmp_path, "classification")
    assert "cannot be opened" in refused(
        "finetune",
        "classify",
        "--train",
        train,
        "--from",
        bert,
        "--output-dir",
        tmp_path / "run",
        "--set=task.max_seq_length=32",
    )


@pytest.mark.parametrize("model_type", ["bert", "evil"])
def test_code_beside_a_model_is_never_run_and_no_one_is_asked_whether_it_may(tmp_path, canary, model_type, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    folder = write_head(tmp_path / "model")
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": model_type, "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    result = run("predict", folder, "--sentence", "the cat")
    assert (result.exit_code, model_type) in [(0, "bert"), (2, "bert"), (2, "evil")]


def test_a_tokenizer_of_code_beside_it_is_refused(tmp_path, canary):
    folder = tmp_path / "tokenizer"
    BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}).save_pretrained(folder)
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.T", "evil.T"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CorpusError, match="custom code"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:pathlib.Path.touch", "!!python/object/new:pathlib.Path", "!!python/name:os.system"]
)
def test_yaml_that_names_python_is_refused(tmp_path, canary, tag):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"train: {tag} [{canary}]\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(PretrainConfig, recipe)
    recipe.write_text("")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(PretrainConfig, recipe, settings=[f"train={{a: {tag} [{canary}]}}"])


def test_counts_that_are_a_pickle_are_refused(store, tmp_path, canary):
    from bertkit.data.store import TokenStore

    copied = tmp_path / "store"
    shutil.copytree(store.path, copied)
    np.save(copied / "unigrams.npy", np.array([Canary(canary)], dtype=object), allow_pickle=True)
    with pytest.raises(CorpusError, match="unigrams.npy"):
        TokenStore.open(copied).unigram_counts  # noqa: B018


def test_a_checkpoint_holds_no_pickle(tmp_path):
    # What a run keeps is JSON, YAML, safetensors, Arrow and an array of numbers: all of them are opened as such.
    run_dir = pretrained(write_corpus(tmp_path / "corpus", documents=12, sentences=5), tmp_path / "run")
    kept = [path for path in run_dir.rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.suffix for path in kept} <= {".json", ".jsonl", ".yaml", ".safetensors", ".arrow", ".npy", ""}
    assert any(path.name == "optimizer.safetensors" for path in kept)
    for path in kept:
        assert not path.read_bytes().startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"))


def pretrained(corpus, run_dir):
    result = run("pretrain", corpus, "--output-dir", run_dir, *SMALL_RUN)
    assert result.exit_code == 0, result.output
    return run_dir


def holds(folder, secret):
    """The files below a folder that hold the secret."""
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@pytest.fixture
def signed_corpus(tmp_path, monkeypatch):
    """The address of a corpus with a password and a signature, as the command line holds it."""
    text = (write_corpus(tmp_path / "corpus", documents=12, sentences=5) / "animals.txt").read_bytes()
    filesystem, path = fsspec.core.url_to_fs(SIGNED)
    filesystem.pipe(path, text)
    monkeypatch.setattr(sys, "argv", ["bertkit", "pretrain", SIGNED, f"--set=data.tokenizer.path=hf_{TOKEN}"])
    yield SIGNED
    filesystem.rm(path)


def test_a_run_keeps_and_says_no_secret_of_its_corpus_and_goes_on_without_it(
    signed_corpus, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("HF_TOKEN", f"hf_{TOKEN}")
    command = ("pretrain", signed_corpus, "--output-dir", tmp_path / "run", *SMALL_RUN, "--set=every.save_steps=1")
    with caplog.at_level(logging.INFO, logger="bertkit"):
        first = run(*command)
    assert first.exit_code == 0, first.output
    for secret in (SECRET, TOKEN):
        assert secret not in first.output + caplog.text
        assert not holds(tmp_path / "run", secret)
    assert "***@bucket/corpus.txt?***" in (tmp_path / "run" / "config.yaml").read_text()
    assert "***@bucket/corpus.txt?***" in (tmp_path / "run" / "environment.json").read_text()
    weights = (tmp_path / "run" / "export" / "model.safetensors").read_bytes()
    for again in (command, ("pretrain", tmp_path / "run")):
        shutil.rmtree(tmp_path / "run" / "export")
        result = run(*again)
        assert result.exit_code == 0, result.output
        assert (tmp_path / "run" / "export" / "model.safetensors").read_bytes() == weights


def test_a_run_that_was_stopped_while_it_read_the_corpus_asks_for_the_whole_address(signed_corpus, tmp_path):
    pretrained(signed_corpus, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    shutil.rmtree(tmp_path / "run" / "store")
    line = refused("pretrain", tmp_path / "run")
    assert "without its password" in line
    assert SECRET not in line


def test_a_store_and_a_dry_run_hold_no_secret(signed_corpus, tmp_path):
    assert run("prepare", signed_corpus, "--output-dir", tmp_path / "store", *SMALL_RUN).exit_code == 0
    assert holds(tmp_path / "store", "corpus.txt")
    assert not holds(tmp_path / "store", SECRET)
    prepared = ("prepare", signed_corpus, "--output-dir", f"memory://me:{SECRET}@bucket/store?sig={SECRET}")
    for command in (("pretrain", signed_corpus), prepared):
        result = run(*command, *SMALL_RUN, "--dry-run")
        assert result.exit_code == 0
        assert SECRET not in result.output


@pytest.mark.parametrize(
    "location",
    [f"https://user:{SECRET}@127.0.0.1:1/x.txt?sig={SECRET}", f"ftps3://k:{SECRET}@h/x", f"hf://hf_{TOKEN}/x"],
)
def test_what_cannot_be_reached_is_named_without_its_secrets(location, tmp_path):
    line = refused("prepare", location, "--output-dir", tmp_path / "store")
    assert SECRET not in line
    assert TOKEN not in line
    assert "***" in line


def test_errors_of_every_kind_hide_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "anything at all, if long")
    for kind in (BertkitError, ConfigError, CorpusError, HubError):
        said = str(kind(f"https://me:{SECRET}@host/a?b={SECRET} with hf_{TOKEN} and anything at all, if long"))
        assert said == "https://***@host/a?*** with hf_*** and ***"


def test_a_token_of_few_letters_is_none_and_garbles_no_path(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "test")
    assert redacted("/home/me/tests/latest.txt") == "/home/me/tests/latest.txt"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/key.txt", "s3://bucket/key.txt"),
        ("https://host/a.txt?sig=x&b=y: try again", "https://host/a.txt?***: try again"),
        ("'https://me:p@ss@host/a'", "'https://***@host/a'"),
        ("a@b.c and what? nothing", "a@b.c and what? nothing"),
        ("hf_transfer", "hf_transfer"),
    ],
)
def test_only_secrets_are_hidden(text, shown):
    assert redacted(text) == shown
