"""`bertkit prepare --executor`: the same token store, made by datatrove's executors on many cores or machines."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bertkit.config.data import DataConfig
from bertkit.errors import ConfigError
from bertkit.installed import is_installed

if TYPE_CHECKING:
    from bertkit.workflows.prepare import PrepareSummary, Progress

ExecutorName = Literal["local", "ray", "slurm"]

REQUIREMENTS: Final = {"datatrove": "datatrove[io]>=0.10,<0.11", "ray": "ray>=2.50,<3"}
PACKAGES: Final = {"local": ("datatrove",), "ray": ("datatrove", "ray"), "slurm": ("datatrove",)}


def prepare_on_cluster(
    corpus: str,
    output_dir: Path | str,
    config: DataConfig,
    *,
    executor: ExecutorName,
    needs_pairs: bool = True,
    on_progress: "Progress | None" = None,
) -> "PrepareSummary":
    """Make a token store as `prepare` does, byte for byte, by tasks that `executor` runs.

    The corpus, the output and the recipe's data.cluster.work_dir are paths or URLs that all machines share.
    Raises CorpusError or ConfigError when they, the settings or the machines cannot be used.
    """
    if missing := [package for package in PACKAGES[executor] if not is_installed(package)]:
        packages = " ".join(f"'{REQUIREMENTS[package]}'" for package in missing)
        raise ConfigError(f"--executor {executor} needs {' and '.join(missing)}: pip install {packages}")
    from bertkit.workflows.prepare_cluster.run import run_preparation

    return run_preparation(
        corpus, output_dir, config, executor=executor, needs_pairs=needs_pairs, on_progress=on_progress
    )
