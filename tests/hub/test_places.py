"""No path of this machine and no address of its network is published."""

import pytest

from bertkit.hub.places import base_name, shown_command, without_places


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
        ("//srv/share/ann/x.csv", "x.csv"),
        ("///home/ann/x", "x"),
        ("file:/home/ann/m", "m"),
        ("node7:/home/ann/m", "m"),
        ("~ann/x", "x"),
        ("../../ann/x", "x"),
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


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("--train=//srv/share/x", "--train=x"),
        ("@/home/ann/args", "@args"),
        ("-o/home/ann", "-oann"),
        ("task.evaluate=/home/ann smith/y.csv", "task.evaluate=y.csv"),
        ("task.evaluate=[/home/ann smith/y.csv, ../ann/z.csv]", "task.evaluate=[y.csv, z.csv]"),
        ("corpus=/data/day=1/ann/x", "corpus=x"),
        ("read /home/ann/y.csv first", "read y.csv first"),
        ("--set=train.epochs=3", "--set=train.epochs=3"),
        ("--learning-rate=3e-5", "--learning-rate=3e-5"),
    ],
)
def test_an_argument_keeps_its_name_and_loses_its_place(given, left):
    assert without_places(given) == left


def test_a_command_is_one_quoted_line_without_a_place_or_a_secret():
    command = ["bertkit", "finetune", "--train", "/home/ann smith/my data.csv", "--set", "x=hf_" + "a" * 30]
    assert shown_command(command) == "bertkit finetune --train 'my data.csv' --set 'x=hf_***'"


def test_what_is_no_text_and_what_is_no_path_stays_as_it_is():
    values = {"a": {"b": [1, None, 2.5, True]}, "text": "either/or, 3/4 and a / b"}
    assert without_places(values) == values


def test_tokens_and_passwords_are_hidden_too():
    found = without_places(["--set", "x=hf_" + "a" * 30])
    assert "a" * 30 not in str(found)
