"""bertkit finetune: named tasks and the user's own files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bertkit.cli.completion import finetuning_recipe_names, glue_tasks_or_all, run_folders
from bertkit.cli.console import ConsoleWatcher, errors_as_one_line, is_main_process, print_json
from bertkit.cli.launch import NumProcesses, start_processes
from bertkit.cli.options import AsJson, DryRun, Settings
from bertkit.train.signals import exit_code

if TYPE_CHECKING:
    from bertkit.config.finetune import FinetuneConfig

# The named tasks beside GLUE's.
NAMED = {
    "squad": "SQuAD 1.1: answers that are spans of a paragraph",
    "squad2": "SQuAD 2.0: questions that may have no answer",
    "conll2003": "CoNLL-2003 named entities",
    "swag": "SWAG: the likeliest of four continuations",
}

app = typer.Typer(
    help="Fine-tune a BERT on a task of the paper, or on your own labelled files.\n\n"
    "Example: bertkit finetune classify --train reviews.csv --text review --label stars",
    no_args_is_help=True,
)

InitFrom = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="BERT folder, pre-training run or Hub id; google-bert/bert-base-uncased if left out.",
        autocompletion=run_folders,
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder with the task's files in their original layout; from the Hub if left out.")
]
Train = Annotated[
    str, typer.Option("--train", help="Labelled file: .csv, .tsv, .jsonl, .parquet, CoNLL columns or SQuAD .json.")
]
Evaluate = Annotated[
    list[str] | None,
    typer.Option("--eval", help="Labelled file to score; may be repeated. A part of --train is held out if left out."),
]
Text = Annotated[
    list[str] | None, typer.Option("--text", help="Column of the text; give it twice for a pair of texts.")
]
Label = Annotated[str | None, typer.Option("--label", help="Column of the label; several 0/1 columns: a,b,c.")]
Choices = Annotated[list[str] | None, typer.Option("--choice", help="Column of a choice; repeat it for each.")]
Recipe = Annotated[
    str | None,
    typer.Option(help="paper (the default), stable, or a YAML file.", autocompletion=finetuning_recipe_names),
]
Stable = Annotated[bool, typer.Option("--stable", help="The published remedies for small data sets in one preset.")]
Seeds = Annotated[int, typer.Option(min=1, help="Run this many seeds; print mean and standard deviation.")]
Grid = Annotated[str | None, typer.Option(help="paper: batch 16, 32 x rate 5e-5, 3e-5, 2e-5 x 2, 3, 4 epochs.")]
Retry = Annotated[
    int | None, typer.Option("--retry-collapsed", help="Begin a collapsed run again with another seed, so many times.")
]
FeatureBased = Annotated[
    bool,
    typer.Option(
        "--feature-based",
        help="Keep the encoder as it is and train a BiLSTM on its layers; --set model.bilstm.layers=... chooses them.",
    ),
]
OutputDir = Annotated[
    Path | None, typer.Option(help="Run folder; runs/TASK if left out. An existing run is continued.")
]


@app.command("glue")
def glue(
    task: Annotated[
        str,
        typer.Argument(
            help="cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, or all.", autocompletion=glue_tasks_or_all
        ),
    ],
    init_from: InitFrom = None,
    data_dir: DataDir = None,
    recipe: Recipe = None,
    seeds: Seeds = 1,
    grid: Grid = None,
    stable: Stable = False,
    retry_collapsed: Retry = None,
    feature_based: FeatureBased = False,
    output_dir: OutputDir = None,
    nproc: NumProcesses = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune on a GLUE task, or on all, and score it with GLUE's own metrics.

    Example: bertkit finetune glue mrpc --from runs/base --data-dir glue_data --seeds 5
    """
    options = named_options(f"glue/{task}", init_from, data_dir) | {"train.retry_collapsed": retry_collapsed}
    _run(Request(options, recipe, stable, settings, seeds, grid, output_dir, dry_run, as_json, nproc, feature_based))


def _named_command(name: str, title: str) -> None:
    def command(
        init_from: InitFrom = None,
        data_dir: DataDir = None,
        recipe: Recipe = None,
        seeds: Seeds = 1,
        grid: Grid = None,
        stable: Stable = False,
        retry_collapsed: Retry = None,
        feature_based: FeatureBased = False,
        output_dir: OutputDir = None,
        nproc: NumProcesses = None,
        settings: Settings = None,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        options = named_options(name, init_from, data_dir) | {"train.retry_collapsed": retry_collapsed}
        _run(
            Request(options, recipe, stable, settings, seeds, grid, output_dir, dry_run, as_json, nproc, feature_based)
        )

    app.command(name, help=f"Fine-tune on {title}.\n\nExample: bertkit finetune {name} --data-dir data/")(command)


for _name, _title in NAMED.items():
    _named_command(_name, _title)


@app.command("classify")
def classify(
    train: Train,
    evaluate: Evaluate = None,
    text: Text = None,
    label: Label = None,
    init_from: InitFrom = None,
    recipe: Recipe = None,
    seeds: Seeds = 1,
    stable: Stable = False,
    feature_based: FeatureBased = False,
    output_dir: OutputDir = None,
    nproc: NumProcesses = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune on your own texts or pairs: one label, several labels or a number a row.

    Example: bertkit finetune classify --train reviews.csv --text review --label stars
    """
    options = own_options("auto", train, evaluate, text, label, None, init_from)
    _run(Request(options, recipe, stable, settings, seeds, None, output_dir, dry_run, as_json, nproc, feature_based))


@app.command("tag")
def tag(
    train: Train,
    evaluate: Evaluate = None,
    init_from: InitFrom = None,
    recipe: Recipe = None,
    seeds: Seeds = 1,
    stable: Stable = False,
    feature_based: FeatureBased = False,
    output_dir: OutputDir = None,
    nproc: NumProcesses = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune on your own tagged sentences, such as named entities: CoNLL columns, or words and tags in JSONL.

    Example: bertkit finetune tag --train train.conll --eval dev.conll
    """
    options = own_options("tagging", train, evaluate, None, None, None, init_from)
    _run(Request(options, recipe, stable, settings, seeds, None, output_dir, dry_run, as_json, nproc, feature_based))


@app.command("qa")
def qa(
    train: Train,
    evaluate: Evaluate = None,
    init_from: InitFrom = None,
    recipe: Recipe = None,
    seeds: Seeds = 1,
    stable: Stable = False,
    feature_based: FeatureBased = False,
    output_dir: OutputDir = None,
    nproc: NumProcesses = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune on your own questions with answers in a context: SQuAD's JSON, or a table.

    Example: bertkit finetune qa --train train.json --eval dev.json
    """
    options = own_options("span_qa", train, evaluate, None, None, None, init_from)
    _run(Request(options, recipe, stable, settings, seeds, None, output_dir, dry_run, as_json, nproc, feature_based))


@app.command("choose")
def choose(
    train: Train,
    evaluate: Evaluate = None,
    text: Text = None,
    label: Label = None,
    choices: Choices = None,
    init_from: InitFrom = None,
    recipe: Recipe = None,
    seeds: Seeds = 1,
    feature_based: FeatureBased = False,
    output_dir: OutputDir = None,
    nproc: NumProcesses = None,
    settings: Settings = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune on your own contexts with choices, one of them right.

    Example: bertkit finetune choose --train train.csv --text context --choice a --choice b --label answer
    """
    options = own_options("multiple_choice", train, evaluate, text, label, choices, init_from)
    _run(Request(options, recipe, False, settings, seeds, None, output_dir, dry_run, as_json, nproc, feature_based))


@dataclass(frozen=True)
class Request:
    """What a fine-tuning command was asked for."""

    options: dict[str, Any]
    recipe: str | None
    stable: bool
    settings: list[str] | None
    seeds: int
    grid: str | None
    output_dir: Path | None
    dry_run: bool
    as_json: bool
    nproc: int | None
    feature_based: bool


def _run(request: Request) -> None:
    with errors_as_one_line():
        from bertkit.config.load import dump_config
        from bertkit.errors import ConfigError
        from bertkit.workflows.finetune_setup import planned
        from bertkit.workflows.suite import grid_of

        if request.grid and request.seeds > 1:
            raise ConfigError("--grid and --seeds are two searches: run the grid, then its best cell with --seeds")
        config = load_request(
            request.options,
            request.recipe,
            request.stable,
            request.settings or [],
            feature_based=request.feature_based,
        )
        folder = request.output_dir or Path("runs") / _run_name(config)
        if request.dry_run:
            if request.grid:
                grid_of(config, folder, request.grid)
            whole_suite = config.task.name == "glue/all"
            if is_main_process():
                planned_config = config if whole_suite else planned(config)
                typer.echo(f"# would run in {folder}\n{dump_config(planned_config)}", nl=False)
            return
        start_processes(request.nproc)
        with ConsoleWatcher() as watch:
            if request.grid or request.seeds > 1 or config.task.name == "glue/all":
                stopped_by = _run_suite(config, folder, request, watch)
            else:
                stopped_by = _run_one(config, folder, request, watch)
        if stopped_by and is_main_process():
            typer.echo(f"stopped by {stopped_by}; everything is saved in {folder}, and the same command continues it")
            raise typer.Exit(exit_code(stopped_by))


def load_request(
    options: dict[str, Any],
    recipe: str | None,
    stable: bool,
    settings: list[str],
    *,
    feature_based: bool = False,
) -> "FinetuneConfig":
    """The config of a command's options.

    Raises:
        ConfigError: they do not fit together.
    """
    from bertkit.config.finetune import FinetuneConfig
    from bertkit.config.load import find_recipe, load_config
    from bertkit.errors import ConfigError

    if recipe and stable:
        raise ConfigError("--stable is the recipe 'stable': leave out --recipe")
    if feature_based and stable:
        raise ConfigError("--stable is for an encoder that is fine-tuned: leave it or --feature-based out")
    if any(setting.replace(" ", "").startswith("train.max_steps=") for setting in settings):
        # Steps on the command line take the place of a recipe's epochs.
        settings = ["train.epochs=null", *settings]
    path = find_recipe(recipe or ("stable" if stable else "paper"), finetuning=True)
    if not feature_based:
        return load_config(FinetuneConfig, path, settings=settings, options=options)
    if any(_thaws(setting) for setting in settings):
        raise ConfigError("--feature-based keeps the encoder as it is: leave out --set model.freeze")
    options = options | {"model.freeze": "encoder"}
    config = load_config(FinetuneConfig, path, settings=[*_with_bilstm(path), *settings], options=options)
    if config.model.bilstm is None:
        raise ConfigError("--feature-based trains model.bilstm: leave out --set model.bilstm=null")
    return config


def _thaws(setting: str) -> bool:
    """Whether a setting asks for an encoder that is trained."""
    key, _, value = setting.partition("=")
    return key.strip() == "model.freeze" and value.strip().strip("'\"") != "encoder"


def _with_bilstm(recipe: Path) -> list[str]:
    """The setting that gives a recipe a BiLSTM where it has none."""
    from bertkit.config.load import read_yaml

    model = read_yaml(recipe).get("model")
    return [] if isinstance(model, dict) and model.get("bilstm") else ["model.bilstm={}"]


def named_options(name: str, init_from: str | None, data_dir: Path | None) -> dict[str, Any]:
    """The settings behind the options of a named task."""
    place = None if data_dir is None else str(data_dir.resolve())
    return {"task.name": name, "model.init_from": _source(init_from), "task.data_dir": place}


def own_options(
    problem: str,
    train: str,
    evaluate: list[str] | None,
    text: list[str] | None,
    label: str | None,
    choices: list[str] | None,
    init_from: str | None,
) -> dict[str, Any]:
    """The settings behind the options of one's own files."""
    return {
        "task.problem": None if problem == "auto" else problem,
        "task.train": str(Path(train).resolve()),
        "task.evaluate": [str(Path(path).resolve()) for path in evaluate] if evaluate else None,
        "task.texts": text,
        "task.label": label,
        "task.choices": choices,
        "model.init_from": _source(init_from),
    }


def _source(init_from: str | None) -> str | None:
    """A run knows what it began from wherever it is continued from."""
    return str(Path(init_from).resolve()) if init_from and Path(init_from).exists() else init_from


def _run_name(config: "FinetuneConfig") -> str:
    if config.task.name == "glue/all":
        return "glue"
    return (config.task.name or Path(str(config.task.train)).name.split(".")[0]).split("/")[-1]


def _run_one(config: "FinetuneConfig", folder: Path, request: Request, watch: ConsoleWatcher) -> str | None:
    from bertkit.cli.scores import print_run
    from bertkit.workflows.finetune import finetune

    summary = finetune(config, folder, watch=watch)
    if summary.stopped_by is None and is_main_process():
        if request.as_json:
            print_json({"run_dir": str(folder), **summary.results})
        else:
            print_run(folder, summary.results)
    return summary.stopped_by


def _run_suite(config: "FinetuneConfig", folder: Path, request: Request, watch: ConsoleWatcher) -> str | None:
    from bertkit.cli.scores import print_grid, print_suite
    from bertkit.workflows.suite import glue_suite, grid_of, run_cells, seeds_of

    if config.task.name == "glue/all":
        cells = glue_suite(config, folder, request.seeds, grid=request.grid)
    elif request.grid:
        cells = grid_of(config, folder, request.grid)
    else:
        cells = seeds_of(config, folder, request.seeds)
    summary = run_cells(cells, folder, watch=watch)
    if is_main_process() and request.as_json:
        print_json({"run_dir": str(folder), "runs": summary.runs, "figures": summary.figures})
    elif is_main_process() and summary.runs:
        (print_grid if request.grid else print_suite)(summary)
    return summary.stopped_by
