"""A folder of files to a repository on the Hub, in one commit: what is there already is not sent again."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    get_session,
    get_token,
    hf_hub_url,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
    validate_repo_id,
)

from bertkit.errors import HubError
from bertkit.hub.card import is_own
from bertkit.hub.refusals import is_out_of_reach, is_passing, require_endpoint, told

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Between tries of what huggingface_hub does not try again by itself: creating a repository, checking, committing.
_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0)
# A server that says nothing for so long has gone; its storage may take a minute over a large commit.
_TIMEOUT_S: Final = 120.0
CARD_FILE: Final = "README.md"
# What git takes for a branch, and the Hub for part of an address.
_BRANCH: Final = re.compile(r"(?!.*(?:\.\.|\.lock(?:/|$)|\.$))\w[\w.+-]*(?:/\w[\w.+-]*)*", re.ASCII)


@dataclass(frozen=True)
class RepoFile:
    """One file of a repository: its path there, where it lies here or what it holds, and its size in bytes."""

    path: str
    content: Path | bytes
    size: int

    @classmethod
    def of(cls, path: str, content: Path | bytes) -> "RepoFile":
        """The file as it is now."""
        return cls(path, content, len(content) if isinstance(content, bytes) else content.stat().st_size)


@dataclass(frozen=True)
class Uploaded:
    """Where the files are now; `is_new` is false where the repository held all of them before.

    `keeps_card`: its README.md is not one that bertkit wrote, and stayed; `removed` are files that are gone from it.
    """

    url: str
    commit_url: str
    is_new: bool
    pull_request_url: str | None = None
    keeps_card: bool = False
    removed: tuple[str, ...] = ()


def require_repo_id(repo_id: str) -> None:
    """Raise HubError where `repo_id` cannot be the name of a repository."""
    with told(repo_id):
        validate_repo_id(repo_id)
    if repo_id.startswith((".", "/", "\\")) or repo_id.count("/") > 1:
        raise HubError(f"{repo_id!r} is no repository: give NAME or OWNER/NAME")


def require_branch(revision: str) -> None:
    """Raise HubError where `revision` cannot be the name of a branch."""
    if not _BRANCH.fullmatch(revision):
        raise HubError(f"--revision {revision!r} is no branch: give letters, digits, '-', '_', '.' and '/'")


def full_repo_id(repo_id: str) -> str:
    """OWNER/NAME, the owner being whose token it is where `repo_id` names none.

    Raises:
        HubError: HF_ENDPOINT is no URL, there is no token, it is not valid, it may only read, or the Hub is out of
            reach.
    """
    require_endpoint()
    token = get_token()
    if token and not (token.isascii() and token.isprintable()):
        raise HubError(
            "the token for the Hub holds characters that no token has: copy it anew from "
            "https://huggingface.co/settings/tokens to HF_TOKEN, or log in with hf auth login"
        )
    if not token:
        raise HubError(
            "there is no token for the Hub: log in with hf auth login, or set HF_TOKEN to a token that may write "
            "(https://huggingface.co/settings/tokens)"
        )
    with told(repo_id), _bounded():
        user = _patiently(HfApi().whoami)
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise HubError(
            f"the token of {user['name']} may only read: make one that may write at "
            "https://huggingface.co/settings/tokens and log in with it (hf auth login), or set HF_TOKEN to it"
        )
    return repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"


def upload(
    repo_id: str,
    files: Sequence[RepoFile],
    *,
    message: str,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    overwrites_card: bool = False,
    outdated: Iterable[str] = (),
) -> Uploaded:
    """Makes the repository if need be, and commits the files, whatever they are, to it.

    private: of a new repository; one that exists and is public is refused. revision: a branch, made if need be.
    create_pr: as a pull request, for repositories of others. overwrites_card: also a README.md that bertkit did not
    write, or that somebody has edited since. outdated: what the same commit removes where it is there.

    Raises:
        HubError: anything went wrong; says how to go on.
    """
    if revision is not None:
        require_branch(revision)
    with told(repo_id), _bounded():
        api = HfApi()
        for file in files:
            if file.path == CARD_FILE and isinstance(file.content, bytes):
                _require_valid(ModelCard(file.content.decode()))
        before = _prepare(api, repo_id, private=private, revision=revision, create_pr=create_pr)
        there = {sibling.rfilename for sibling in before.siblings or ()}
        keeps_card = CARD_FILE in there and not overwrites_card and not _is_own_card(api, repo_id, before.sha)
        sent = [file for file in files if not (keeps_card and file.path == CARD_FILE)]
        removed = sorted(there.intersection(outdated) - {file.path for file in files})
        commit = _commit(api, repo_id, sent, removed, message=message, revision=revision, create_pr=create_pr)
    return Uploaded(
        url=f"{api.endpoint}/{repo_id}" + (f"/tree/{quote(revision, safe='')}" if revision else ""),
        commit_url=commit.commit_url,
        is_new=commit.oid != before.sha,
        pull_request_url=commit.pr_url,
        keeps_card=keeps_card,
        removed=tuple(removed),
    )


def _require_valid(card: ModelCard) -> None:
    """Has the Hub check the card's metadata before anything is sent."""
    try:
        _patiently(card.validate)
    except ValueError as error:
        said = "; ".join(re.findall(r'"message": ?"((?:[^"\\]|\\.)*)"', str(error))) or str(error)
        raise HubError(f"the Hub refuses the metadata of the card ({said}): check --license and --language") from None


def _prepare(api: HfApi, repo_id: str, *, private: bool, revision: str | None, create_pr: bool) -> Any:
    """Makes the repository and its branch where they are missing; returns what the Hub knows of the branch.

    Raises:
        HubError: it is public, and was to be private.
    """
    if not create_pr:
        _patiently(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True))
    info = _patiently(lambda: api.model_info(repo_id))
    if private and not info.private:
        raise HubError(
            f"{repo_id} exists and is public, so nothing was pushed: make it private in its settings, or leave out "
            "--private"
        )
    if revision is not None and not create_pr:
        _patiently(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
        info = _patiently(lambda: api.model_info(repo_id, revision=revision))
    return info


def _is_own_card(api: HfApi, repo_id: str, commit: str) -> bool:
    """Whether the README.md of a commit is, byte for byte, one that bertkit wrote."""

    def read() -> bytes:
        address = hf_hub_url(repo_id, CARD_FILE, revision=commit, endpoint=api.endpoint)
        response = get_session().get(address, headers=build_hf_headers(), follow_redirects=True)
        hf_raise_for_status(response)
        return bytes(response.content)

    return is_own(_patiently(read))


def _commit(
    api: HfApi,
    repo_id: str,
    files: Sequence[RepoFile],
    removed: Sequence[str],
    *,
    message: str,
    revision: str | None,
    create_pr: bool,
) -> Any:
    def commit() -> Any:
        # Anew for each try: what a lost answer was about is found to be there, and left out.
        additions = [CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=_given(file)) for file in files]
        deletions = [CommitOperationDelete(path_in_repo=path) for path in removed]
        return api.create_commit(
            repo_id, [*additions, *deletions], commit_message=message, revision=revision, create_pr=create_pr or None
        )

    # A pull request whose answer was lost would be made twice.
    return commit() if create_pr else _patiently(commit)


def _given(file: RepoFile) -> bytes | str:
    return file.content if isinstance(file.content, bytes) else str(file.content)


def _patiently(call: Callable[[], Result]) -> Result:
    """The result of a call that may be made again, made again after a while where trying again may help."""
    for wait_s in _WAITS_S:
        try:
            return call()
        except Exception as error:
            if not is_passing(error):
                raise
            what = "cannot be reached" if is_out_of_reach(error) else "does not answer as it should"
            logger.info("the Hub %s; trying again in %g s", what, wait_s)
            time.sleep(wait_s)
    return call()


@contextmanager
def _bounded() -> Iterator[None]:
    """Requests that end in finite time: huggingface_hub waits for ever by itself."""
    session = get_session()
    before = session.timeout
    session.timeout = _TIMEOUT_S
    try:
        yield
    finally:
        session.timeout = before
