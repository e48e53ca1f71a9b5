"""bertkit export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson, Run

if TYPE_CHECKING:
    from collections.abc import Mapping

Format = Literal["bert", "onnx", "safetensors-only", "bertkit"]


def export(
    run: Run = None,
    to: Annotated[
        Format | None,
        typer.Option(
            help="bert: plain transformers opens it; onnx: onnxruntime does; safetensors-only: weights and config; "
            "bertkit: bertkit's classes with their code. If left out bert, or bertkit where transformers has no class "
            "for the model."
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="With --to onnx: 8-bit integers too, and what they cost in score.")
    ] = False,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder to write; RUN/export if left out, or RUN/FORMAT.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's last or best checkpoint as a folder for others to open, checked logit for logit.

    Example: bertkit export runs/base --to onnx --int8 --output-dir my-bert
    """
    with errors_as_one_line():
        from bertkit.workflows.export import export as run_export
        from bertkit.workflows.export_code import has_code
        from bertkit.workflows.quantize import read_record

        with ConsoleWatcher() as watch:
            folder = run_export(run, to=to, int8=int8, output_dir=output_dir, watch=watch)
        quantization = read_record(folder) if int8 else None
        if as_json:
            written = to or ("bertkit" if has_code(folder) else "bert")
            print_json({"output_dir": str(folder), "format": written, "quantization": quantization})
            return
        if quantization is not None:
            print_table(str(folder), _rows(quantization), header=("", "float32", "int8", "change"))
            if "note" in quantization:
                typer.echo(f"{quantization['note']}\n")
        typer.echo(str(folder))


def _rows(record: "Mapping[str, Any]") -> list[tuple[str, ...]]:
    """Sizes, times and figures of both models beside one another."""
    before, after = record["models"].values()
    sizes = (before["bytes"], after["bytes"])
    rows = [("size", *(f"{size / 1e6:,.1f} MB" for size in sizes), f"{sizes[1] / sizes[0] - 1:+.0%}")]
    if "scores" not in before:
        return [*rows, ("score", "not measured", "not measured", "")]
    seconds = (before["seconds"], after["seconds"])
    rows.append(("time to score", *(f"{each:,.1f} s" for each in seconds), f"{seconds[1] / seconds[0] - 1:+.0%}"))
    for split, figures in before["scores"].items():
        for name, value in figures.items():
            other = after["scores"][split][name]
            if isinstance(value, float):
                rows.append((f"{split} {name}", f"{value:.4f}", f"{other:.4f}", f"{other - value:+.4f}"))
    return rows
