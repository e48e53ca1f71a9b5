"""What the commands read, made hostile in every way we could think of: corpora, labelled files, recipes, models."""

import bz2
import csv
import gzip
import io
import json
import lzma
import shutil
import struct
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import yaml
import zstandard
from hostile import (
    FUZZ,
    HOSTILE_VALUES,
    NAMES,
    SPLICES,
    Guard,
    Sandbox,
    altered,
    any_of,
    damaged,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_corpus import write_corpus
from toy_heads import write_heads
from toy_tasks import write_bert, write_examples
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import list_finetuning_recipes, list_recipes, load_config
from bertkit.config.schema import PretrainConfig
from bertkit.train import checkpoint

COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress}
SMALL_DATA = ("--set=data.tokenizer.vocab_size=100", "--set=data.num_workers=1", "--set=data.heldout_share=0.2")
SMALL_RUN = (
    "--recipe=tiny", *SMALL_DATA, "--set=train.epochs=null", "--set=train.max_steps=2", "--set=model.hidden_size=16",
    "--set=train.global_batch_size=8", "--set=model.num_attention_heads=2", "--set=model.num_hidden_layers=1",
    "--set=model.intermediate_size=32", "--set=every.log_steps=1",
)  # fmt: skip


def fuzz(inputs, *, max_examples):
    """Hold so many inputs to the law; some must have come to a result and some to an error, or nothing was tried."""
    codes = Counter()

    @settings(FUZZ, max_examples=max_examples)
    @given(inputs.strategy())
    def ends_in_a_result_or_one_line(example):
        codes[inputs.try_one(example)] += 1

    ends_in_a_result_or_one_line()
    assert codes[0] > 0.05 * max_examples, codes
    assert codes[2] > 0.05 * max_examples, codes
    print(f"{sum(codes.values()):,} inputs, of which {codes[0]:,} came to a result")


def parquet(rows, **options):
    """The bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


def delimited(rows, separator):
    """The bytes of a table with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


class Corpora:
    """One or two files with odd names and damaged bytes, compressed before or after they are damaged, for `prepare`."""

    def __init__(self, root):
        self.box = Sandbox(root)
        self.guard = Guard(self.box)
        self.box.prepare()
        text = (write_corpus(root / "seed", documents=12, sentences=5) / "animals.txt").read_bytes()
        rows = [{"id": n, "text": text} for n, text in enumerate(text.decode().strip().split("\n\n"))]
        plain = {
            "a.txt": text,
            "a.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
            "a.csv": delimited(rows, ","),
            "a.parquet": parquet(rows),
            "b.parquet": parquet(rows, compression="zstd", use_dictionary=False),
        }
        packed = {f"{name}.{kind}": pack(plain[name]) for name in plain for kind, pack in COMPRESS.items()}
        self.files = plain | packed
        for name, content in self.files.items():
            self.guard.run_clean(
                *self._command(), setup=lambda name=name, content=content: self._write([(name, content)])
            )

    def strategy(self):
        bytes_damaged = st.sampled_from(sorted(self.files)).flatmap(
            lambda name: st.tuples(st.just(name), damaged(self.files[name]))
        )
        text = damaged(self.files["a.txt"])
        packed = st.tuples(st.sampled_from(sorted(COMPRESS)), text).map(
            lambda t: (f"d.txt.{t[0]}", COMPRESS[t[0]](t[1]))
        )
        named = st.tuples(st.sampled_from(NAMES), text)
        file = st.one_of(bytes_damaged, bytes_damaged, packed, named)
        return st.lists(file, min_size=1, max_size=2, unique_by=lambda pair: pair[0])

    def try_one(self, files):
        self._write(files)
        return self.guard.run(*self._command())

    def _write(self, files):
        self.box.prepare()
        for name, content in files:
            (self.box.input / name).write_bytes(content)

    def _command(self):
        return ["prepare", str(self.box.input), "--output-dir", str(self.box.output), "--recipe=tiny", *SMALL_DATA]


PROBLEMS = {
    "classification": ("classify", "named"),
    "regression": ("classify", "number"),
    "multi_label": ("classify", "named sets"),
    "tagging": ("tag", "tagged"),
    "span_qa": ("qa", "answers"),
    "multiple_choice": ("choose", "choices"),
}


class LabelledFiles:
    """A damaged file of every kind of problem and layout, for `check`, `finetune --dry-run`, `predict`, `evaluate`."""

    def __init__(self, root):
        self.box = Sandbox(root)
        self.guard = Guard(self.box)
        self.box.prepare()
        write_bert(root / "bert")
        self.heads = write_problem_heads(root / "heads")
        self.rows, self.files = {}, {}
        for problem in PROBLEMS:
            self.rows[problem], self.files[problem] = labelled_files(root / "seed" / problem, problem)
        for problem, files in self.files.items():
            for name, content in files.items():
                for command in ("check", "finetune", "predict", "evaluate"):
                    self._write(name, content)
                    self.guard.run_clean(*self._command(command, problem, name), setup=self.box.output.mkdir)

    def strategy(self):
        def file_of(problem):
            files, rows = self.files[problem], self.rows[problem][:6]
            bytes_damaged = st.sampled_from(sorted(files)).flatmap(
                lambda name: st.tuples(st.just(name), damaged(files[name]))
            )
            packed = damaged(files["a.jsonl"]).map(lambda content: ("b.jsonl.gz", gzip.compress(content)))
            lines = altered(rows).map(lambda rows: ("a.jsonl", json_lines(rows)))
            array = altered(rows).map(lambda rows: ("a.json", json.dumps(rows).encode()))
            ways = [bytes_damaged, bytes_damaged, packed, lines, array]
            if "q.json" in files:
                nested = altered(json.loads(files["q.json"]))
                ways.append(nested.map(lambda value: ("q.json", json.dumps(value).encode())))
            return st.one_of(*ways)

        commands = st.sampled_from(["check", "check", "predict", "predict to csv", "finetune", "evaluate"])
        return st.sampled_from(sorted(PROBLEMS)).flatmap(
            lambda problem: st.tuples(st.just(problem), file_of(problem), commands)
        )

    def try_one(self, example):
        problem, (name, content), command = example
        self._write(name, content)
        self.box.output.mkdir()
        return self.guard.run(*self._command(command, problem, name))

    def _write(self, name, content):
        self.box.prepare()
        (self.box.input / name).write_bytes(content)

    def _command(self, command, problem, name):
        path, (verb, head) = str(self.box.input / name), PROBLEMS[problem]
        if command == "evaluate":
            return ["evaluate", str(self.heads / head), "--data", path]
        if command.startswith("predict"):
            output = self.box.output / ("out.csv" if command.endswith("csv") else "out.jsonl")
            return ["predict", str(self.heads / head), path, "--output", str(output)]
        options = [
            command,
            verb,
            "--train",
            path,
            "--from",
            str(self.box.root / "bert"),
            "--set=task.max_seq_length=32",
        ]
        if problem in ("regression", "multi_label"):
            options.append(f"--set=task.problem={problem}")
        return [*options, "--dry-run"] if command == "finetune" else options


def write_problem_heads(folder):
    """Models with a head whose labels are those of the toy files."""
    from toy_heads import SETS, write_head

    write_heads(folder)
    write_head(folder / "named", labels=("nothing", "animal"))
    write_head(folder / "named sets", labels=("animal", "a"), **SETS)
    write_head(folder / "tagged", "TokenClassification", labels=("O", "B-CAT", "I-CAT"))
    return folder


def labelled_files(folder, problem):
    """The rows of a toy task, and its files in every layout that can hold them."""
    path = write_examples(folder, problem, number=12)
    content = path.read_bytes()
    if problem == "tagging":
        sentences = [[line.split() for line in block.split("\n")] for block in content.decode().strip().split("\n\n")]
        rows = [{"tokens": [w for w, _ in words], "ner_tags": [tag for _, tag in words]} for words in sentences]
        numbered = "\n\n".join("\n".join(f"{n}\t{w}\t_\t{t}" for n, (w, t) in enumerate(words)) for words in sentences)
        tables = {"a.conll": content, "a.tsv": content.replace(b" ", b"\t"), "a.conllu": numbered.encode() + b"\n"}
    else:
        rows, tables = [json.loads(line) for line in content.splitlines()], {}
    if problem in ("classification", "regression", "multiple_choice"):
        tables = {"a.csv": delimited(rows, ","), "b.csv": delimited(rows, ";"), "a.tsv": delimited(rows, "\t")}
        tables["a.csv.zst"] = zstandard.compress(tables["a.csv"])
    if problem == "span_qa":
        tables["q.json"] = json.dumps({"version": "2.0", "data": [squad_article(row) for row in rows]}).encode()
    tables["a.jsonl"] = json_lines(rows)
    return rows, tables | {"a.parquet": parquet(rows), "a.json": json.dumps(rows, indent=1).encode()}


def squad_article(row):
    """A row of a question as SQuAD nests it."""
    pairs = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
    answers = [{"text": text, "answer_start": start} for text, start in pairs]
    question = {"id": row["id"], "question": row["question"], "is_impossible": not answers, "answers": answers}
    return {"title": "t", "paragraphs": [{"context": row["context"], "qas": [question]}]}


def json_lines(rows):
    """Rows as lines of JSON; what is no list is one line."""
    return "".join(json.dumps(row) + "\n" for row in (rows if isinstance(rows, list) else [rows])).encode()


ALIASES = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
MERGES = [f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 10)]
ALIAS_BOMB = "\n".join(["a0: &a0 [x, x, x, x]", *ALIASES, "train: *a9", ""])
MERGE_BOMB = "\n".join(["a0: &a0 {x: 1}", *MERGES, "train: *a9", ""])
YAML_SPLICES = (
    *SPLICES, ALIAS_BOMB.encode(), MERGE_BOMB.encode(), b"&x [*x]", b"train: &t\n  x: *t\n", b"? [a]\n: b\n",
    b"!!set {a}",
    b"!!timestamp x", b"2001-99-99", b"!!int x", b"!!float x", b"!!omap x", b"1_0:99:99", b"0b2", b"0o9", b"=",
    b"---\n",
    b"...\n", b"%YAML 9.9\n", b"!!map [a]", b"!!bool maybe", b"!<tag:yaml.org,2002:python/name:os.system> ''",
)  # fmt: skip


class Recipes:
    """Damaged and altered recipes, and hostile `--set`, for every command that resolves them."""

    def __init__(self, root):
        self.box = Sandbox(root)
        self.guard = Guard(self.box)
        self.box.prepare()
        write_corpus(root / "seed", documents=4, sentences=2)
        (root / "labelled.csv").write_text("text,label\na,b\n")
        self.shipped = {False: list_recipes(), True: list_finetuning_recipes()}
        self.whole = {
            False: load_config(PretrainConfig, self.shipped[False][0]).model_dump(mode="json"),
            True: load_config(FinetuneConfig, self.shipped[True][0]).model_dump(mode="json"),
        }
        for command in ("pretrain", "prepare", "finetune"):
            for recipe in self.shipped[command == "finetune"]:
                self.guard.run_clean(*self._command(command, recipe))

    def strategy(self):
        def recipe_for(command):
            finetuning = command == "finetune"
            whole = self.whole[finetuning]
            keys = st.sampled_from([*dotted(whole), "x", "", ".", "a.b.c", "train..x", "train.", "train.seed.x"])
            values = st.one_of(
                any_of(HOSTILE_VALUES).map(str),
                any_of(YAML_SPLICES).map(lambda splice: splice[:3000].decode("utf-8", "surrogateescape")),
            )
            sets = st.lists(st.tuples(keys, values).map(lambda pair: f"--set={pair[0]}={pair[1]}"), max_size=2)
            shipped = st.sampled_from(self.shipped[finetuning]).flatmap(
                lambda path: damaged(path.read_bytes(), splices=YAML_SPLICES)
            )
            content = st.one_of(shipped, altered(whole).map(as_yaml), st.just(as_yaml(whole)))
            return st.tuples(st.just(command), content, sets)

        return st.sampled_from(["pretrain", "prepare", "finetune"]).flatmap(recipe_for)

    def try_one(self, example):
        command, content, sets = example
        self.box.prepare()
        path = self.box.input / "recipe.yaml"
        path.write_bytes(content)
        return self.guard.run(*self._command(command, path), *sets)

    def _command(self, command, recipe):
        options = ["--recipe", str(recipe), "--output-dir", str(self.box.output), "--dry-run"]
        if command == "finetune":
            return ["finetune", "classify", "--train", str(self.box.root / "labelled.csv"), *options]
        return [command, str(self.box.root / "seed"), *options]


def dotted(values, prefix=""):
    """The dotted keys of nested sections."""
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")


def as_yaml(values):
    """YAML, or JSON, which is YAML too, where it cannot be written as such."""
    try:
        return yaml.safe_dump(values).encode()
    except UnicodeEncodeError:
        return json.dumps(values).encode()


HEADERS = (
    struct.pack("<Q", 2**63), struct.pack("<Q", 2**40), struct.pack("<Q", 0), b'"shape":[999999999999]',
    b'"dtype":"F64"',
    b'"data_offsets":[0,99999999999]', b"[18446744073709551615]",
)  # fmt: skip


class Models:
    """Runs with store, checkpoint and export, and BERT folders, one file damaged, half of the seals renewed."""

    def __init__(self, root):
        self.box = Sandbox(root)
        self.guard = Guard(self.box)
        self.box.prepare()
        self.seed = root / "seed"
        write_corpus(self.seed / "corpus", documents=12, sentences=5)
        self.labelled = str(write_examples(self.seed, "classification", number=16))
        self.places = {
            "run": self.seed / "run",
            "tuned": self.seed / "tuned",
            "head": write_problem_heads(self.seed / "heads") / "named",
            "bert": write_bert(self.seed / "bert"),
        }
        run = ["pretrain", str(self.seed / "corpus"), "--output-dir", str(self.places["run"]), *SMALL_RUN]
        for command in (run, self._finetune(self.places["bert"], self.places["tuned"])):
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 0, (result.output, result.exception)
        self.files = {
            kind: [str(path.relative_to(place)) for path in sorted(place.rglob("*")) if path.is_file()]
            for kind, place in self.places.items()
        }
        for kind in self.places:
            for number in range(len(self._commands(kind))):
                self.guard.run_clean(*self._commands(kind)[number], setup=lambda kind=kind: self._copy(kind))

    @property
    def copied(self):
        return self.box.output / "copy"

    def strategy(self):
        def one_of(kind):
            file = st.sampled_from(self.files[kind]).flatmap(
                lambda name: st.tuples(st.just(name), self._content(self.places[kind] / name))
            )
            commands = st.integers(0, len(self._commands(kind)) - 1)
            return st.tuples(st.just(kind), file, st.booleans(), commands)

        return st.sampled_from(sorted(self.places)).flatmap(one_of)

    def try_one(self, example):
        kind, (name, content), renewed, number = example
        self._copy(kind)
        if content is None:
            (self.copied / name).unlink()
        else:
            (self.copied / name).write_bytes(content)
        if renewed:
            renew_seals(self.copied)
        return self.guard.run(*self._commands(kind)[number])

    def _content(self, path):
        whole = path.read_bytes()
        ways = [damaged(whole, splices=(*SPLICES, *HEADERS)), st.none()]
        if path.suffix == ".json":
            ways += 2 * [altered(json.loads(whole)).map(lambda values: json.dumps(values).encode())]
        if path.suffix == ".safetensors":
            size = struct.unpack("<Q", whole[:8])[0]
            header = altered(json.loads(whole[8 : 8 + size])).map(lambda values: json.dumps(values).encode())
            ways += [header.map(lambda head: struct.pack("<Q", len(head)) + head + whole[8 + size :])]
            ways += [any_of(HEADERS).map(lambda head: head + whole[8:])]
        return st.one_of(*ways)

    def _copy(self, kind):
        self.box.prepare()
        shutil.copytree(self.places[kind], self.copied)

    def _commands(self, kind):
        copied, export = str(self.copied), str(self.box.output / "export")
        begin = ["pretrain", str(self.seed / "corpus"), *SMALL_RUN, "--output-dir", export]
        check = ["check", "classify", "--train", self.labelled, "--from", copied]
        return {
            "run": [
                ["evaluate", copied],
                ["export", copied, "--output-dir", export],
                ["pretrain", copied],
                [*begin, "--from", copied, "--dry-run"],
                ["pretrain", f"{copied}/store", *SMALL_RUN, "--output-dir", export],
                check,
            ],
            "tuned": [
                ["evaluate", copied],
                ["predict", copied, "--sentence", "the cat"],
                ["export", copied, "--output-dir", export],
                ["evaluate", f"{copied}/export", "--data", self.labelled],
            ],
            "head": [["predict", copied, "--sentence", "the cat"], ["evaluate", copied, "--data", self.labelled]],
            "bert": [check, self._finetune(self.copied, self.box.output / "export")],
        }[kind]

    def _finetune(self, bert, output):
        options = ["--from", str(bert), "--output-dir", str(output), "--set=train.max_steps=1"]
        small = ["--set=train.global_batch_size=8", "--set=task.max_seq_length=32"]
        return ["finetune", "classify", "--train", self.labelled, *options, *small]


def renew_seals(run):
    """Write the sizes and hashes anew, as whoever alters a file on purpose would."""
    for path in (run / "checkpoints").glob("*/checkpoint.json"):
        try:
            values = json.loads(path.read_bytes())
            values.pop("seal", None)
            values["files"] = {name: checkpoint._fingerprint(path.parent / name) for name in values["files"]}
            path.write_text(json.dumps(values | {"seal": checkpoint._seal(values)}))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    try:
        path = run / "store" / "manifest.json"
        values = json.loads(path.read_bytes())
        for shard in (shard for split in values["splits"].values() for shard in split["shards"]):
            content = (run / "store" / "shards" / shard["name"]).read_bytes()
            shard |= {"size": len(content), "hash": xxhash.xxh3_128_hexdigest(content)}
        path.write_text(json.dumps(values))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
