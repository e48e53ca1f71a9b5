"""Which optional packages are there."""

from importlib.util import find_spec


def is_installed(package: str) -> bool:
    """Whether a package can be imported; a folder of its name that lies in the working folder is none.

    wandb, for one, leaves a folder wandb/ wherever it runs.
    """
    found = find_spec(package)
    return found is not None and found.origin is not None
