"""The machine a run would find: packages, devices, disks, caches, the way to the Hub."""

import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from huggingface_hub import constants, get_token
from packaging.requirements import Requirement

import bertkit
from bertkit.data.pool import usable_cores
from bertkit.data.shard_cache import default_cache_folder
from bertkit.errors import redacted
from bertkit.installed import is_installed
from bertkit.train.setup import resolve_precision
from bertkit.workflows.doctor.outcome import Check
from bertkit.workflows.plan import free_main_memory

# What a checkpoint of BERT base needs (weights and two moments in float32), twice, and some.
ROOM_BYTES: Final = 5e9
MEMORY_BYTES: Final = 2e9
# Values of transformers' and the Hub's switches that mean yes.
_YES: Final = ("1", "ON", "YES", "TRUE")
# What can be switched on, and the packages it takes, by the names they are imported with.
OPTIONAL: Final = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "mlflow": ("mlflow",),
    "model.lora": ("peft",),
    "optim.name lamb": ("pytorch_optimizer",),
    "export --to onnx": ("onnx", "onnxruntime", "onnxscript"),
    "serve": ("starlette", "uvicorn"),
    "every.energy": ("codecarbon",),
    "prepare --executor": ("datatrove",),
    "Chinese words": ("rjieba",),
}
# A cache of many files on a slow disk is not counted to its end.
SECONDS_TO_COUNT: Final = 3.0


def check_packages() -> list[Check]:
    """Python, bertkit, and every package it needs, in a version it was made for."""
    python = f"Python {platform.python_version()} on {platform.platform(terse=True)}"
    unfit = [text for name in _required() if (text := _unfit(name))]
    checks = [Check("bertkit", "ok", f"{bertkit.__version__}, {python}")]
    if unfit:
        remedy = f"{sys.executable} -m pip install --upgrade bertkit"
        checks.append(Check("packages", "problem", f"{'; '.join(unfit)}: {remedy}"))
    else:
        names = ("torch", "transformers", "accelerate", "datasets", "tokenizers")
        checks.append(Check("packages", "ok", ", ".join(f"{name} {version(name)}" for name in names)))
    missing = {use: [each for each in names if not is_installed(each)] for use, names in OPTIONAL.items()}
    ready = [use for use, names in missing.items() if not names]
    lacking = [use if names == [use] else f"{use} ({', '.join(names)})" for use, names in missing.items() if names]
    said = f"ready: {', '.join(ready) or 'none'}; not installed: {', '.join(lacking) or 'none'}"
    return [*checks, Check("optional packages", "ok", said)]


def _required() -> list[Requirement]:
    """What bertkit needs without extras; nothing where it runs without being installed."""
    try:
        needed = [Requirement(text) for text in requires("bertkit") or ()]
    except PackageNotFoundError:
        return []
    return [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]


def _unfit(needed: Requirement) -> str | None:
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return f"{needed.name} is not installed"
    if needed.specifier.contains(found, prereleases=True):
        return None
    return f"{needed.name} {found} is installed, {needed.specifier} is needed"


def check_devices() -> list[Check]:
    """The processor, its memory, and every accelerator, each of which multiplies two matrices."""
    total, free = psutil.virtual_memory().total, free_main_memory()
    threads, cores = torch.get_num_threads(), usable_cores()
    precision = resolve_precision("auto", device=torch.device("cpu"))
    text = (
        f"{cores} cores, {threads} threads of torch, {free / 1e9:.1f} of {total / 1e9:.1f} GB of memory free, "
        f"precision {precision} unless set"
    )
    processor = Check("processor", "ok", text)
    if threads > cores:
        processor = Check("processor", "warning", f"{text}: set OMP_NUM_THREADS to {cores} at the most")
    elif free < MEMORY_BYTES:
        processor = Check("processor", "warning", f"{text}: end other programs, or take a small recipe")
    return [processor, *_accelerators()]


def _accelerators() -> list[Check]:
    if torch.cuda.is_available():
        return [_cuda_device(number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return [_working(torch.device("mps"), "Apple GPU (MPS), precision fp32 unless set")]
    if torch.version.cuda is not None:
        text = f"torch was built for CUDA {torch.version.cuda} and sees no GPU: see what nvidia-smi says of the driver"
        return [Check("accelerators", "warning", text)]
    return [Check("accelerators", "ok", "none: training takes place on the processor")]


def _cuda_device(number: int) -> Check:
    device = torch.device("cuda", number)
    free, total = torch.cuda.mem_get_info(device)
    precision = resolve_precision("auto", device=device)
    name = f"{torch.cuda.get_device_name(device)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, precision {precision}"
    check = _working(device, f"{name} unless set")
    if check.status == "ok" and free < total / 2:
        return Check(check.name, "warning", f"{check.text}: another program holds most of its memory")
    return check


def _working(device: torch.device, text: str) -> Check:
    """Whether the device multiplies; drivers and wheels that do not fit show here, not in the middle of a run."""
    ones = torch.ones(64, 64)
    try:
        product = (ones.to(device) @ ones.to(device)).cpu()
    except RuntimeError as error:
        return Check(str(device), "problem", f"{text}, but it cannot multiply: {str(error).splitlines()[0]}")
    if not torch.equal(product, ones @ ones):
        return Check(str(device), "problem", f"{text}, but it multiplies wrongly: do not train on it")
    return Check(str(device), "ok", text)


def check_disks() -> list[Check]:
    """Room and permission to write where runs and temporary files lie."""
    return [check_folder("this folder", Path.cwd()), check_folder("temporary files", Path(tempfile.gettempdir()))]


def check_folder(name: str, folder: Path) -> Check:
    """Whether there is room in a folder, or in where it would be made, and permission to write."""
    # What lies behind a folder that may not be entered cannot be told from what is not there.
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110
    free = shutil.disk_usage(nearest).free
    text = f"{folder}: {free / 1e9:,.1f} GB free"
    if not os.access(nearest, os.W_OK):
        return Check(name, "problem", f"{text}, but it cannot be written: work in another folder, or ask its owner")
    if free < ROOM_BYTES:
        return Check(name, "warning", f"{text}; two checkpoints of BERT base take 3 GB: free some space")
    return Check(name, "ok", text)


def check_caches() -> list[Check]:
    """Where models and data from the Hub, and shards of remote stores, are kept, and how much they hold."""
    places = {"Hugging Face cache": Path(constants.HF_HOME), "shards of remote stores": default_cache_folder()}
    checks = []
    for name, folder in places.items():
        check = check_folder(name, folder)
        held = f", {_held(folder)} held" if folder.is_dir() else ", not made yet"
        checks.append(Check(name, check.status, check.text.replace(" GB free", f" GB free{held}", 1)))
    return checks


def _held(folder: Path) -> str:
    """The bytes of a folder's files; a file that goes meanwhile, or may not be seen, does not count."""
    until_s, total = time.monotonic() + SECONDS_TO_COUNT, 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                # The Hub's cache shows one file under several names, by links.
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118
                total += 0 if stat.S_ISLNK(status.st_mode) else status.st_size
        if time.monotonic() > until_s:
            return f"more than {total / 1e9:,.2f} GB"
    return f"{total / 1e9:,.2f} GB"


def check_hub() -> list[Check]:
    """Whether the Hub may be asked, and as whom; nobody is asked now."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in _YES
    endpoint = redacted(constants.ENDPOINT)
    reach = "HF_HUB_OFFLINE is set: nothing is fetched or pushed" if offline else f"{endpoint}, when you name something"
    token: Any = get_token()
    who = "a token is there" if token else "no token: hf auth login before push-to-hub, or set HF_TOKEN"
    return [Check("Hub", "ok", f"{reach}; {who}")]
