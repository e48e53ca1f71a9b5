"""The model card of a run, made of its `results.json` and `config.yaml`, and of `metrics.jsonl` for the curve."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml
from huggingface_hub import ModelCard

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import read_yaml, without_execution
from bertkit.config.schema import PretrainConfig
from bertkit.errors import BertkitError, CheckpointError, HubError, refused_as
from bertkit.hub.card import build_card
from bertkit.hub.places import shown_command, without_places
from bertkit.hub.upload import require_repo_id
from bertkit.workflows.card_finetuned import content_of_finetuned
from bertkit.workflows.card_pretrained import content_of_pretrained
from bertkit.workflows.export_code import has_code
from bertkit.workflows.plots import PLOTS_FOLDER, training_plot
from bertkit.workflows.published import Published, published_run
from bertkit.workflows.runs import RunFolder, write_aside

logger = logging.getLogger(__name__)

# Where the card looks for its picture: beside itself.
PICTURE: Final = f"{PLOTS_FOLDER}/training.png"
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

    It shows the curve where push-to-hub would; in a file only where that picture lies beside it.

    Raises:
        CheckpointError: there is no such run, or it is not finished, or `output` cannot be written.
        HubError: the repository, the license or the language is none that the Hub could know.
    """
    published = published_run(run_path)
    has_picture = bool(card_picture(published.run)) if output is None else (output.parent / PICTURE).is_file()
    text = str(
        make_card(published, repo_id=repo_id, license=license, language=language, has_picture=has_picture).content
    )
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
    has_picture: bool = False,
) -> ModelCard:
    """The card of a run, for a repository that has the code of its classes, or the run's picture, where so said.

    Raises:
        CheckpointError: the run's results or its config is damaged.
        HubError: the repository, the license or the language is none that the Hub could know.
    """
    _require_identifiers(repo_id, license, language)
    with refused_as(
        CheckpointError,
        f"{published.run.path} cannot be described, its results.json or config.yaml is damaged: put them back, or "
        "remove results.json and run the same command again",
    ):
        return _described(
            published, repo_id, license=license, language=language, with_code=with_code, has_picture=has_picture
        )


def portable_config(run: RunFolder) -> str:
    """The run's config as a recipe for anywhere: what decides the weights, without a path, an address or a secret."""
    schema = FinetuneConfig if run.is_finetuning() else PretrainConfig
    values = without_places(without_execution(schema, read_yaml(run.config_file)))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def card_picture(run: RunFolder) -> bytes | None:
    """The curve of a run as a PNG, drawn anew; one drawn earlier only where that cannot be done.

    None where there is nothing to draw, of a run without a row in its log.
    """
    try:
        return training_plot(run)
    except BertkitError as error:
        logger.info("the curve cannot be drawn anew: %s", error)
    earlier = run.path / PICTURE
    return earlier.read_bytes() if earlier.is_file() else None


def _described(
    published: Published,
    repo_id: str | None,
    *,
    license: str | None,
    language: str | None,
    with_code: bool,
    has_picture: bool,
) -> ModelCard:
    run, results = published.run, published.results
    repo_id = repo_id or f"YOUR-NAME/{_repo_name(published.title)}"
    content_of = content_of_finetuned if "task" in results else content_of_pretrained
    config = without_places(read_yaml(run.config_file))
    content = content_of(published, config, repo_id, with_code=with_code or has_code(run.export))
    return build_card(
        replace(
            content,
            license=license,
            language=language or content.language,
            command=_command(results),
            config=portable_config(run),
            image=PICTURE if has_picture else None,
        )
    )


def _require_identifiers(repo_id: str | None, license: str | None, language: str | None) -> None:
    if repo_id is not None:
        require_repo_id(repo_id)
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
    return shown_command(command) if command else ""
