"""The kinds of problem there are, by name: a new kind is one file and one line here."""

from bertkit.tasks.classification import CLASSIFICATION, MULTI_LABEL, REGRESSION
from bertkit.tasks.multiple_choice import MULTIPLE_CHOICE
from bertkit.tasks.span_qa import SPAN_QA
from bertkit.tasks.tagging import TAGGING

PROBLEMS = {
    problem.name: problem for problem in (CLASSIFICATION, REGRESSION, MULTI_LABEL, TAGGING, SPAN_QA, MULTIPLE_CHOICE)
}
