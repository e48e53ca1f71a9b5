"""bertkit explain."""

from typing import TYPE_CHECKING, Annotated

import typer

from bertkit.cli.completion import run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson

if TYPE_CHECKING:
    from bertkit.workflows.explain import Explanation, InputToken


def explain(
    text: Annotated[str, typer.Argument(help="A sentence, or the first of a pair.")],
    pair: Annotated[str | None, typer.Argument(help="The second text of a pair.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Run, prepared store, BERT folder or Hub id; the newest run if left out.",
            autocompletion=run_folders,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed masks other tokens.")] = 0,
    max_seq_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens there is room for; the tokenizer's own if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what BERT is given for a sentence or a pair: word pieces, ids, segments, positions, what would be masked.

    Example: bertkit explain "The cat sat." "It purred." --from runs/base
    """
    with errors_as_one_line():
        from bertkit.workflows.explain import explain as run_explain

        with ConsoleWatcher():
            found = run_explain(text, pair, source=source, seed=seed, max_seq_length=max_seq_length)
        if as_json:
            print_json(found.as_dict())
        else:
            _print(found)


def _print(found: "Explanation") -> None:
    header = ("position", "word piece", "id", "segment", "in pre-training")
    print_table(f"tokenizer of {found.tokenizer}", [_row(token) for token in found.tokens], header=header)
    sums = "word and segment" if found.direction == "bilm" else "word, segment and position"
    enters = f"each enters as the sum of its {sums} embedding"
    typer.echo(f"{len(found.tokens)} tokens; {_predicted(found)}; {enters}")
    if found.num_cut:
        typer.echo(f"{found.num_cut} word pieces found no room and were cut")


def _predicted(found: "Explanation") -> str:
    if found.direction == "left-to-right":
        return "each that is not special is predicted from those before it, and none is masked"
    if found.direction == "bilm":
        return "each that is not special is predicted from those before it and from those after it, and none is masked"
    chosen = sum(token.masked_as is not None for token in found.tokens)
    share = f"{found.mlm_probability:.0%} of those that are not special"
    return f"{chosen} would be predicted in this draw ({share})"


def _row(token: "InputToken") -> tuple[str, ...]:
    shown = ""
    if token.masked_as is not None:
        shown = "predicted, left as it is" if token.masked_as == token.piece else f"predicted, reads {token.masked_as}"
    return str(token.position), token.piece, str(token.input_id), "AB"[token.token_type_id], shown
