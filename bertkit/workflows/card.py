"""The model card of a run, made of its `results.json` and `config.yaml` and nothing else but its plots."""

import logging
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import read_yaml, without_execution
from bertkit.config.schema import PretrainConfig
from bertkit.errors import BertkitError, HubError, redacted
from bertkit.hub.card import build_card
from bertkit.hub.places import without_places
from bertkit.workflows.card_finetuned import content_of_finetuned
from bertkit.workflows.card_pretrained import content_of_pretrained
from bertkit.workflows.plots import PLOTS_FOLDER, write_plots
from bertkit.workflows.published import Published, published_run
from bertkit.workflows.runs import RunFolder, write_aside

logger = logging.getLogger(__name__)

# The one that says most, by the name that write_plots gives it.
_PICTURE = "training.png"
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|multilingual|code")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def card(
    run_path: Path | None = None,
    *,
    output: Path | None = None,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | None = None,
) -> str:
    """The model card of a run (the newest by default), also written to the file `output` if one is given.

    Raises:
        CheckpointError: there is no such run, or it is not finished, or `output` cannot be written.
        HubError: the license or the language is none that the Hub could know.
    """
    published = published_run(run_path)
    text = str(make_card(published, repo_id=repo_id, license=license, language=language).content)
    if output is not None:
        write_aside(output, text)
    return text


def make_card(
    published: Published,
    *,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | None = None,
    with_code: bool = False,
) -> ModelCard:
    """The card of a run; `with_code`: for a repository that carries the code of its classes.

    Raises:
        HubError: the license or the language is none that the Hub could know.
    """
    _require_identifiers(license, language)
    run, results = published.run, published.results
    repo_id = repo_id or f"YOUR-NAME/{_repo_name(published.title)}"
    content_of = content_of_finetuned if "task" in results else content_of_pretrained
    content = content_of(published, without_places(read_yaml(run.config_file)), repo_id, with_code=with_code)
    return build_card(
        replace(
            content,
            license=license,
            language=language or content.language,
            command=_command(results),
            config=portable_config(run),
            image=next((f"{PLOTS_FOLDER}/{path.name}" for path in card_images(run)), None),
        )
    )


def portable_config(run: RunFolder) -> str:
    """The run's config as a recipe for anywhere: what decides the weights, without a path, an address or a secret."""
    schema = FinetuneConfig if run.is_finetuning() else PretrainConfig
    values = without_places(without_execution(schema, read_yaml(run.config_file)))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def card_images(run: RunFolder) -> list[Path]:
    """The plots that a card shows, drawn where the run has none yet."""
    picture = run.path / PLOTS_FOLDER / _PICTURE
    if not picture.is_file():
        try:
            write_plots(run)
        except BertkitError as error:
            logger.info("the card has no picture: %s", error)
    return [picture] if picture.is_file() else []


def _require_identifiers(license: str | None, language: str | None) -> None:
    if license is not None and not _LICENSE.fullmatch(license):
        raise HubError(
            f"{license!r} is no license identifier: give one such as apache-2.0, mit or cc-by-4.0 "
            "(https://huggingface.co/docs/hub/repositories-licenses)"
        )
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise HubError(f"{language!r} is no language code: give two or three letters such as en, zh or deu")


def _repo_name(title: str) -> str:
    """A run's name as the Hub allows it for a repository."""
    return re.sub(r"(--|\.\.)+", "-", re.sub(r"[^A-Za-z0-9._-]+", "-", title))[:80].strip("-.") or "bert"


def _command(results: dict[str, Any]) -> str:
    command = results.get("provenance", {}).get("command")
    return redacted(shlex.join(without_places(command))) if command else ""
