"""bertkit bench."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bertkit.cli.completion import recipe_names
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, print_json, print_table
from bertkit.cli.options import AsJson, Settings

if TYPE_CHECKING:
    from bertkit.config.schema import PretrainConfig
    from bertkit.workflows.bench.compare import BenchResult, Ratio, SideResult, Spread

Subject = Literal["pretrain", "objectives", "finetune", "predict", "prepare", "resume", "ranks", "startup"]
WITHOUT_CORPUS = ("finetune", "startup")


def bench(
    subject: Annotated[Subject, typer.Argument(help="What to measure.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe whose model shape is measured; mini, or 6 layers of 384 to finetune and predict.",
            autocompletion=recipe_names,
        ),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Text, or a folder made by bertkit prepare; the demo corpus if left out.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of GLUE's MNLI, to finetune on; rows of MNLI's lengths if left out.")
    ] = None,
    against: Annotated[
        Literal["transformers", "nothing"], typer.Option(help="What to take in turn with bertkit.")
    ] = "transformers",
    rounds: Annotated[int, typer.Option(help="Times each side is measured.")] = 5,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine is with bertkit, and with what one would use instead, in turn in one run.

    Example: bertkit bench pretrain --corpus corpus/ --set data.tokenizer.vocab_size=30522

    Example: bertkit bench finetune --rounds 3
    """
    with errors_as_one_line():
        _refuse_unused(subject, recipe=recipe, corpus=corpus, data_dir=data_dir, settings=settings or [])
        from bertkit.workflows.bench.request import Request
        from bertkit.workflows.bench.subjects import bench as run_bench

        config = _config(subject, recipe, settings or [])
        with ConsoleWatcher() as watch:
            result = run_bench(
                subject,
                Request(config, corpus=corpus, data_dir=data_dir, against=against, rounds=rounds, watch=watch),
            )
        if as_json:
            print_json(asdict(result))
        else:
            print_result(result)


def _refuse_unused(
    subject: str, *, recipe: str | None, corpus: str | None, data_dir: Path | None, settings: list[str]
) -> None:
    from bertkit.errors import ConfigError

    if corpus is not None and subject in WITHOUT_CORPUS:
        raise ConfigError(f"bench {subject} reads no corpus: leave out --corpus")
    if data_dir is not None and subject != "finetune":
        raise ConfigError(f"bench {subject} has no use for --data-dir, which is for finetune: leave it out")
    if subject == "startup" and (recipe is not None or settings):
        raise ConfigError("bench startup measures a command, not a model: leave out --recipe and --set")


def _config(subject: str, recipe: str | None, settings: list[str]) -> "PretrainConfig":
    from bertkit.config.load import find_recipe, load_config
    from bertkit.config.schema import PretrainConfig
    from bertkit.workflows.bench.finetuning import SETTINGS, SHAPE

    given: list[str] = []
    if subject in ("finetune", "predict") and recipe is None:
        given += SHAPE
    if subject == "finetune":
        given += SETTINGS
    return load_config(PretrainConfig, find_recipe(recipe or "mini"), settings=[*given, *settings])


def print_result(result: "BenchResult") -> None:
    """The measurement for people: what was measured, each side, and the ratios."""
    print_table(f"bench {result.subject}: what is alike", [*result.machine.items(), *result.settings.items()])
    _print_settings(result)
    header = ("side", "seconds a step", result.unit, "of the matmul rate", "waited", "peak memory", "before the model")
    _print_filled(
        f"Rounds: {result.rounds}, steps in each: {result.steps}; median (lowest to highest)",
        header,
        [_side_row(side) for side in result.sides],
    )
    if result.matmul_flops:
        rates = [(precision, _spread(rate, 1e-9, ",.0f")) for precision, rate in result.matmul_flops.items()]
        print_table("Matmul rate, GFLOP/s", rates)
    if result.ratios:
        names = ("compared", "ours", "theirs", "ratio of time", "of peak memory", "of memory added")
        _print_filled("Ratios, round by round", names, [_ratio_row(ratio) for ratio in result.ratios])
    for note in result.notes:
        typer.echo(note)


def _print_settings(result: "BenchResult") -> None:
    names = list(dict.fromkeys(name for side in result.sides for name in side.settings))
    if names:
        rows = [(side.name, *(side.settings.get(name, "") for name in names)) for side in result.sides]
        print_table("What is not", rows, header=("side", *names))


def _print_filled(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table of the columns that hold anything."""
    filled = [number for number in range(len(header)) if any(row[number] for row in rows)]
    table = [tuple(row[number] for number in filled) for row in rows]
    print_table(title, table, header=tuple(header[number] for number in filled))


def _side_row(side: "SideResult") -> tuple[str, ...]:
    return (
        side.name,
        _spread(side.step_s, 1, ".3f"),
        _spread(side.rate, 1, ",.0f" if side.rate.median >= 100 else ".2f"),
        _spread(side.utilisation, 100, ".0f", unit=" %") if side.utilisation else "",
        _spread(side.waiting_share, 100, ".1f", unit=" %") if side.waiting_share.high else "",
        f"{side.peak_bytes / 1e6:,.0f} MB",
        f"{side.base_bytes / 1e6:,.0f} MB" if side.base_bytes else "",
    )


def _ratio_row(ratio: "Ratio") -> tuple[str, ...]:
    return (
        ratio.what,
        ratio.ours,
        ratio.theirs,
        _spread(ratio.speed, 1, ".2f", unit="x"),
        "" if ratio.memory is None else f"{ratio.memory:.2f}",
        "" if ratio.memory_growth is None else f"{ratio.memory_growth:.2f}",
    )


def _spread(spread: "Spread", scale: float, form: str, *, unit: str = "") -> str:
    median, low, high = (f"{scale * value:{form}}" for value in (spread.median, spread.low, spread.high))
    return f"{median}{unit} ({low} to {high})"
