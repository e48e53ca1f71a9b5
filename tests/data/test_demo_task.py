"""The demo's task: sentences of docstrings by package, none of which gives its package away."""

import csv
import json
from collections import Counter

from bertkit.data.demo_task import write_demo_task


def write_corpus(path, packages, *, modules=80, sentences=10):
    rows = []
    for package in packages:
        for module in range(modules):
            lines = [
                f"Return item {n} of the {package[::-1]} container number {module} in order." for n in range(sentences)
            ]
            lines.append(f"This {package} function names its package and is left out of the task.")
            lines.append("Too short.")
            rows.append({"text": "\n".join(lines), "module": f"{package}.m{module}", "package": package})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_sentences_name_no_package_and_no_module_is_on_both_sides(tmp_path):
    task = write_demo_task(write_corpus(tmp_path / "corpus.jsonl", ["numpy", "scipy", "torch"]), tmp_path / "task")
    assert task.packages == ("numpy", "scipy", "torch")
    train, evaluate = read(task.train), read(task.evaluate)
    for row in [*train, *evaluate]:
        assert row["package"] not in row["sentence"]
    numbers = [{row["sentence"].split("number ")[1] + row["package"] for row in rows} for rows in (train, evaluate)]
    assert not numbers[0] & numbers[1]
    counts = Counter(row["package"] for row in evaluate)
    assert task.majority == max(counts.values()) / sum(counts.values())


def test_the_same_corpus_gives_the_same_bytes_and_one_package_gives_no_task(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", ["numpy", "scipy"])
    first, second = (write_demo_task(corpus, tmp_path / name) for name in ("a", "b"))
    assert first.train.read_bytes() == second.train.read_bytes()
    assert write_demo_task(write_corpus(tmp_path / "one.jsonl", ["numpy"]), tmp_path / "c") is None
    assert not (tmp_path / "c").exists()
