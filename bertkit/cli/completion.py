"""What a shell offers while a command line is typed: recipes, runs and tasks, without anything heavy imported."""

from collections.abc import Iterator
from pathlib import Path

RUNS = Path("runs")


def recipe_names(incomplete: str) -> list[str]:
    """The shipped recipes for pre-training that begin so; a shell offers files by itself where there is none."""
    from bertkit.config.load import list_recipes

    return [path.stem for path in list_recipes() if path.stem.startswith(incomplete)]


def finetuning_recipe_names(incomplete: str) -> list[str]:
    """The shipped recipes for fine-tuning that begin so."""
    from bertkit.config.load import list_finetuning_recipes

    return [path.stem for path in list_finetuning_recipes() if path.stem.startswith(incomplete)]


def all_recipe_names(incomplete: str) -> list[str]:
    """Every shipped recipe that begins so, those for fine-tuning as finetune/NAME."""
    names = [*recipe_names(""), *(f"finetune/{name}" for name in finetuning_recipe_names(""))]
    return [name for name in names if name.startswith(incomplete)]


def run_folders(incomplete: str) -> list[str]:
    """The runs under runs/ that begin so, the newest first; the runs of a suite come after the suite."""
    found = (path for top in _newest_first(RUNS) for path in (top, *_newest_first(top)) if _is_run(path))
    return [name for name in (path.as_posix() for path in found) if name.startswith(incomplete)]


def glue_tasks(incomplete: str) -> list[str]:
    """GLUE's tasks with something to train on that begin so."""
    from bertkit.tasks.glue import TASKS

    names = (spec.name.removeprefix("glue/") for spec in TASKS if spec.splits.train)
    return [name for name in names if name.startswith(incomplete)]


def glue_tasks_or_all(incomplete: str) -> list[str]:
    """GLUE's tasks that begin so, or all of them as one."""
    return [*glue_tasks(incomplete), *(["all"] if "all".startswith(incomplete) else [])]


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() or (path / "results.json").is_file()


def _newest_first(folder: Path) -> Iterator[Path]:
    try:
        inside = [(path.stat().st_mtime, path) for path in folder.iterdir() if path.is_dir()]
    except OSError:
        # A folder that cannot be read offers nothing; a completion never says a word.
        return iter(())
    return (path for _, path in sorted(inside, reverse=True))
