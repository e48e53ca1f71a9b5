"""bertkit evaluate."""

from collections.abc import Mapping

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson, Run


def evaluate(run: Run = None, as_json: AsJson = False) -> None:
    """Score a pre-trained run on its held-out text: masked LM loss, accuracy and perplexity, next sentence accuracy.

    Example: bertkit evaluate runs/base --json
    """
    with errors_as_one_line():
        from bertkit.workflows.evaluate import evaluate as run_evaluation
        from bertkit.workflows.runs import RunFolder, newest_run

        folder = newest_run() if run is None else RunFolder(run)
        with ConsoleWatcher() as watch:
            results = run_evaluation(folder.path, watch=watch)
        if as_json:
            print_json({"run_dir": str(folder.path), **results})
        else:
            print_table(f"{folder.path} at step {results['step']:,}", score_rows(results["heldout"]))


def score_rows(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Held-out scores, each beside what it must beat."""
    rows = [
        ("masked LM loss", f"{scores['mlm_loss']:.3f}  (word frequencies alone: {scores['unigram_entropy']:.3f})"),
        ("masked LM accuracy", f"{scores['mlm_accuracy']:.1%}"),
        ("masked LM perplexity", f"{scores['mlm_perplexity']:,.1f}"),
    ]
    if "nsp_accuracy" in scores:
        baseline = f"always the same answer: {scores['nsp_majority']:.1%}"
        rows.append(("next sentence accuracy", f"{scores['nsp_accuracy']:.1%}  ({baseline})"))
    return [*rows, ("held-out", f"{scores['num_instances']:,} instances, {scores['num_tokens']:,} tokens")]
