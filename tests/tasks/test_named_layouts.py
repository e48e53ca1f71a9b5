"""Original layouts: the traps of the real files, each alone in a file to check by eye."""

import json
import logging

import pytest
from named_fixtures import FIXTURES, MNLI_HEADER, SWAG_FULL_HEADER, WHO, read, squad_json, tsv, write

from bertkit.errors import TaskError
from bertkit.tasks.conll import detect_scheme, read_conll, to_iob2
from bertkit.tasks.layouts import has_split
from bertkit.tasks.registry import find_task
from bertkit.tasks.spec import Example
from bertkit.tasks.squad_json import read_squad, squad_rows
from bertkit.tasks.swag_files import read_swag

# Traps of GLUE's files


def test_the_folder_of_the_task_itself_will_do(tmp_path):
    write(tmp_path, FIXTURES["glue/rte"].path, FIXTURES["glue/rte"].content)
    assert len(read("glue/rte", "train", tmp_path / "RTE")) == 2


def test_cola_has_a_header_in_its_test_file_alone(tmp_path):
    write(tmp_path, "CoLA/test.tsv", tsv("index|sentence", "3|They ran.", "5|Ran they."))
    examples = read("glue/cola", "test", tmp_path)
    assert [(example.key, example.texts, example.label) for example in examples] == [
        ("3", ("They ran.",), None),
        ("5", ("Ran they.",), None),
    ]
    assert examples[0].columns == {"index": "3", "sentence": "They ran."}
    assert examples[1].place == "CoLA/test.tsv:3"


def test_quotes_and_odd_line_ends_are_letters(tmp_path):
    content = tsv("sentence|label", 'he said " no|1', "a\u2028b\x85c\rd|0", 'more "|1')
    write(tmp_path, "SST-2/train.tsv", content.replace("\n", "\r\n"))
    texts = [example.texts[0] for example in read("glue/sst2", "train", tmp_path)]
    assert texts == ['he said " no', "a\u2028b\x85c\rd", 'more "']


def test_mnli_finds_its_label_in_twelve_columns_and_in_sixteen(tmp_path):
    row = "0|1|1e|slate|(|(|(|(|It rains.|It is wet.|"
    write(tmp_path, "MNLI/train.tsv", tsv(MNLI_HEADER + "label1|gold_label", row + "neutral|entailment"))
    sixteen = tsv(MNLI_HEADER + "label1|label2|label3|label4|label5|gold_label", row + "neutral|" * 5 + "entailment")
    write(tmp_path, "MNLI/dev_matched.tsv", sixteen)
    for split in ("train", "validation_matched"):
        assert [example.label for example in read("glue/mnli", split, tmp_path)] == ["entailment"]


def test_mnli_rows_that_nobody_agreed_on_are_left_out_and_counted(tmp_path, caplog):
    rows = ["0|1|1e|slate|(|(|(|(|A.|B.|neutral|-", "1|1|1e|slate|(|(|(|(|A.|C.|neutral|neutral"]
    write(tmp_path, "MNLI/dev_matched.tsv", tsv(MNLI_HEADER + "label1|gold_label", *rows))
    with caplog.at_level(logging.INFO):
        examples = read("glue/mnli", "validation_matched", tmp_path)
    assert [(example.key, example.texts[1]) for example in examples] == [("1", "C.")]
    assert "1 rows of 'validation_matched' have no label and are left out (row 0, from 0)" in caplog.text


def test_one_dev_file_of_mnli_is_the_matched_one(tmp_path, caplog):
    write(tmp_path, "MNLI/dev.tsv", tsv(MNLI_HEADER + "label1|gold_label", "0|1|1e|s|(|(|(|(|A.|B.|neutral|neutral"))
    with caplog.at_level(logging.INFO):
        assert len(read("glue/mnli", "validation_matched", tmp_path)) == 1
    assert "'validation_mismatched' needs a file of its own" in caplog.text
    assert not has_split(find_task("glue/mnli"), "validation_mismatched", tmp_path)


def test_a_cut_row_of_qqp_is_left_out_and_named(tmp_path, caplog):
    rows = [f"{n}|1|2|Who?|Whom?|{n % 2}" for n in range(11)]
    path = write(
        tmp_path, "QQP/train.tsv", tsv("id|a|b|question1|question2|is_duplicate", *rows[:5], "5|1|2", *rows[5:])
    )
    assert len(read("glue/qqp", "train", tmp_path)) == 11
    assert f"{path} has 1 of 12 rows without its 6 columns (line 7): they are left out" in caplog.text


def test_hans_keeps_the_heuristic_of_every_row(tmp_path):
    write(tmp_path, "HANS/heuristics_evaluation_set.txt", FIXTURES["hans"].content)
    heuristics = [example.columns["heuristic"] for example in read("hans", "validation", tmp_path)]
    assert heuristics == ["lexical_overlap", "constituent"]


def test_training_rows_hand_no_columns_on(tmp_path):
    write(tmp_path, FIXTURES["glue/rte"].path, FIXTURES["glue/rte"].content)
    assert read("glue/rte", "train", tmp_path)[0].columns == {}


# Tagging files


def words_and_tags(path, **options):
    return [(example.texts, example.label) for example in read_conll(path, **options)]


def test_a_line_with_a_tab_alone_ends_a_sentence(tmp_path):
    path = write(tmp_path, "train.conll", "A\tO\n\t\nB\tB-x\n \t \nC\tO")
    assert words_and_tags(path) == [(("A",), ("O",)), (("B",), ("B-x",)), (("C",), ("O",))]
    assert [example.place for example in read_conll(path)] == ["train.conll:1", "train.conll:3", "train.conll:5"]


def test_spaces_separate_where_there_is_no_tab_and_other_spaces_are_letters(tmp_path):
    path = write(tmp_path, "train.txt", "A  NN O \r\n10\u00a0000 CD B-x\r\n")
    assert words_and_tags(path) == [(("A", "10\u00a0000"), ("O", "B-x"))]
    assert words_and_tags(path, tag_column=1) == [(("A", "10\u00a0000"), ("NN", "CD"))]


def test_conll_u_leaves_out_comments_ranges_and_empty_nodes(tmp_path):
    rest = "|_|_|_|_|_|_"
    path = write(
        tmp_path,
        "dev.conllu",
        tsv(
            "# text = I don't|",
            f"1|I|i|PRON{rest}",
            f"2-3|don't|_|_{rest}",
            f"2|do|do|AUX{rest}",
            f"3|n't|not|PART{rest}",
        )
        + tsv(f"3.1|go|go|VERB{rest}"),
    )
    assert words_and_tags(path) == [(("I", "do", "n't"), ("PRON", "AUX", "PART"))]
    assert words_and_tags(path, tag_column=2) == [(("I", "do", "n't"), ("i", "do", "not"))]


def test_a_comment_is_told_from_the_word_that_looks_like_one(tmp_path):
    path = write(tmp_path, "train.txt", "# a b c d\n# O\n1 O\n")
    assert words_and_tags(path) == [(("#", "1"), ("O", "O"))]
    path = write(tmp_path, "train.tsv", "# id = 1\n#\tO\n#x\tO\n")
    assert words_and_tags(path) == [(("#", "#x"), ("O", "O"))]


def test_words_alone_have_no_tags(tmp_path):
    assert words_and_tags(write(tmp_path, "new.txt", "A\nB\n\nC\n")) == [(("A", "B"), None), (("C",), None)]


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB1", "I-a I-a B-a O I-b"),
        ("IOB2", "B-a I-a B-a O B-b"),
        ("IOBES", "B-a E-a S-a O S-b"),
        ("IOBES", "B-a L-a U-a O U-b"),
    ],
)
def test_every_scheme_is_recognised_and_means_the_same(scheme, tags):
    assert detect_scheme([tags.split()]) == scheme
    assert to_iob2(tags.split(), scheme) == ("B-a", "I-a", "B-a", "O", "B-b")


def test_tags_that_mark_no_entities_have_no_scheme_and_stay():
    assert detect_scheme([["NOUN", "O", "VERB"]]) == "none"
    assert to_iob2(["NOUN", "O"], "none") == ("NOUN", "O")
    assert detect_scheme([["O", "O"], []]) == "IOB2"


def test_one_slip_of_an_annotator_does_not_change_the_scheme():
    assert detect_scheme([["B-a", "O"], ["B-b", "O"], ["O", "I-a"]]) == "IOB2"


def test_two_neighbours_of_two_types_are_two_entities():
    assert to_iob2(["I-a", "I-b"], "IOB1") == ("B-a", "B-b")
    assert to_iob2(["E-a", "I-a"], "IOBES") == ("B-a", "B-a")


def test_the_change_of_scheme_is_said(tmp_path, caplog):
    write(tmp_path, "conll2003/eng.testa", FIXTURES["conll2003"].content)
    with caplog.at_level(logging.INFO):
        read("conll2003", "validation", tmp_path)
    assert "tagged in IOB1: its tags become IOB2" in caplog.text


# Questions and choices


def test_a_question_without_answers_given_has_no_label(tmp_path):
    path = write(tmp_path, "new.json", squad_json({"id": "q", "question": "Who?"}))
    assert read_squad(path) == [Example("q", "new.json: question q", ("Who?", "Ann ran."), None)]


def test_flat_rows_may_have_a_list_of_answers():
    assert squad_rows([WHO | {"context": "Ann ran."}], name="x")[0].label[0].text == "Ann"


def test_the_full_format_of_swag_has_four_choices_in_an_order_of_the_row_alone(tmp_path):
    rows = [f"v,A{n}.,He,right,w0,w1,w2,{'w3' if n % 2 else ''}\n" for n in range(20)]
    examples = read_swag(write(tmp_path, "val_full.csv", SWAG_FULL_HEADER + "".join(rows)))
    assert all(sorted(example.texts[1:]) == ["He right", "He w0", "He w1", "He w2"] for example in examples)
    assert all(example.texts[1 + example.label] == "He right" for example in examples)
    assert {example.label for example in examples} == {0, 1, 2, 3}
    alone = read_swag(write(tmp_path, "one.csv", SWAG_FULL_HEADER + rows[7]))
    assert alone[0].texts == examples[7].texts


def test_swag_without_labels_is_for_prediction(tmp_path):
    path = write(tmp_path, "test.csv", "sent1,sent2,ending0,ending1,ending2\nA.,He,sat.,ran.,ate.\n")
    assert [(example.texts, example.label) for example in read_swag(path)] == [
        (("A.", "He sat.", "He ran.", "He ate."), None)
    ]
    with pytest.raises(TaskError, match="none of the 1 rows .* has a label, and 'validation' of 'swag' needs them"):
        read("swag", "validation", write(tmp_path, "x/val.csv", path.read_text()).parent)


def test_swag_may_be_json_lines(tmp_path):
    row = {"sent1": "A.", "sent2": "He", "ending0": "sat.", "ending1": "ran.", "label": 1}
    path = write(tmp_path, "train.jsonl", json.dumps(row) + "\n")
    assert read_swag(path)[0].texts[1 + read_swag(path)[0].label] == "He ran."
