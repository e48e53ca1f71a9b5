"""No path of this machine and no address of its network is published."""

import pytest

from bertkit.hub.places import base_name, without_places


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("/home/ann/my data/train.csv", "train.csv"),
        ("/home/ann/corpus/", "corpus"),
        ("~/corpus", "corpus"),
        (r"C:\Users\ann\train.csv", "train.csv"),
        ("C:/Users/ann/train.csv", "train.csv"),
        (r"\\server\share\train.csv", "train.csv"),
        ("s3://secret-bucket/corpora/wiki", "wiki"),
        ("https://user:pass@files.internal/a/b.txt?sig=abc", "b.txt"),
        ("file:///data/x.txt", "x.txt"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("hf://datasets/a/b", "hf://datasets/a/b"),
        ("runs/base", "runs/base"),
        ("corpus", "corpus"),
    ],
)
def test_a_location_is_cut_to_its_last_part_and_a_hub_id_is_not(given, left):
    assert base_name(given) == left


def test_paths_within_a_command_are_cut_wherever_they_stand():
    command = [
        "bertkit",
        "finetune",
        "--train=/home/ann/a.csv",
        "--set",
        "task.evaluate=[/x/b.csv, '/y/c.csv']",
        "3e-5",
    ]
    expected = ["bertkit", "finetune", "--train=a.csv", "--set", "task.evaluate=[b.csv, 'c.csv']", "3e-5"]
    assert without_places(command) == expected


def test_what_is_no_text_and_what_is_no_path_stays_as_it_is():
    values = {"a": {"b": [1, None, 2.5, True]}, "text": "either/or, 3/4 and a / b"}
    assert without_places(values) == values


def test_tokens_and_passwords_are_hidden_too():
    found = without_places(["--set", "x=hf_" + "a" * 30])
    assert "a" * 30 not in str(found)
