"""Uploads against a hub on loopback: what arrives, what is not sent twice, and one clear line for whatever fails."""

import logging
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_server import OTHER_TOKEN, READ_TOKEN, TOKEN, XET_TOKEN, environment_of, hub_server, use_hub
from huggingface_hub import constants, get_session, hf_hub_download

from bertkit.errors import HubError
from bertkit.hub import upload as upload_module
from bertkit.hub.upload import RepoFile, full_repo_id, require_repo_id, upload

# huggingface_hub's own, of how it hands a file to httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CARD = b"---\nlibrary_name: transformers\n---\n# x\n"
WEIGHTS = bytes(range(256)) * 200


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with hub_server() as hub:
        use_hub(hub, monkeypatch, tmp_path)
        # Retries happen, but nobody waits for them.
        monkeypatch.setattr(upload_module, "_WAITS_S", (0.0, 0.0))
        monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda s: None, time=time.time))
        yield hub


@pytest.fixture
def files(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(WEIGHTS)
    return [RepoFile.of("README.md", CARD), RepoFile.of("model.safetensors", weights)]


def refused(files, repo_id="ann/x", **how):
    with pytest.raises(HubError) as error:
        upload(full_repo_id(repo_id), files, message="m", **how)
    said = str(error.value)
    assert "\n" not in said
    assert not any(token in said for token in (TOKEN, READ_TOKEN, OTHER_TOKEN, "signaturecanary"))
    return said


def test_files_arrive_as_they_were_in_one_commit(hub, files):
    uploaded = upload("ann/x", files, message="a message")
    assert hub.content("ann/x", "model.safetensors") == WEIGHTS
    assert hub.content("ann/x", "README.md") == CARD
    assert [summary for _, summary, _ in hub.repositories["ann/x"].branches["main"]] == ["initial commit", "a message"]
    assert uploaded.is_new
    assert uploaded.url == f"{hub.url}/ann/x"
    assert Path(hf_hub_download("ann/x", "model.safetensors")).read_bytes() == WEIGHTS


def test_a_second_push_of_the_same_sends_nothing_and_commits_nothing(hub, files):
    upload("ann/x", files, message="m")
    again = upload("ann/x", files, message="m")
    assert not again.is_new
    assert len(hub.repositories["ann/x"].branches["main"]) == 2
    assert len(hub.sent("PUT", "/storage/")) == 1


def test_an_existing_repository_keeps_its_own_files_and_gets_a_new_commit(hub, files):
    upload("ann/x", [RepoFile.of("notes.txt", b"mine")], message="m")
    upload("ann/x", files, message="m")
    assert hub.paths("ann/x") == ["README.md", "model.safetensors", "notes.txt"]


def test_a_name_without_an_owner_belongs_to_whose_token_it_is(hub):
    assert full_repo_id("x") == "ann/x"
    assert full_repo_id("org/x") == "org/x"


def test_a_new_repository_is_private_when_asked(hub, files):
    upload("ann/x", files, message="m", private=True)
    assert hub.repositories["ann/x"].private
    upload("ann/y", files, message="m")
    assert not hub.repositories["ann/y"].private


def test_nothing_goes_to_a_public_repository_that_was_to_be_private(hub, files):
    upload("ann/x", files[:1], message="m")
    said = refused(files, private=True)
    assert "exists and is public, so nothing was pushed" in said
    assert hub.sent("PUT", "/storage/") == []


def test_a_branch_is_made_and_the_main_one_left_alone(hub, files):
    upload("ann/x", files[:1], message="m")
    upload("ann/x", files, message="m", revision="v2")
    assert hub.paths("ann/x") == ["README.md"]
    assert hub.paths("ann/x", "v2") == ["README.md", "model.safetensors"]


def test_a_pull_request_needs_no_right_to_write(hub, files, monkeypatch):
    upload("ann/x", files[:1], message="m")
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    small = [RepoFile.of("config.json", b"{}")]
    uploaded = upload("ann/x", small, message="m", create_pr=True)
    assert uploaded.pull_request_url == f"{hub.url}/ann/x/discussions/1"
    assert hub.paths("ann/x") == ["README.md"]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
@pytest.mark.parametrize("path", ["whoami", "repos/create", "validate", "preupload", "batch", "/storage/", "/commit/"])
def test_a_failure_that_passes_is_tried_again(path, status, hub, files):
    for method in ("GET", "POST", "PUT"):
        hub.fail(method, path, status=status, times=1)
    upload(full_repo_id("ann/x"), files, message="m")
    assert hub.content("ann/x", "model.safetensors") == WEIGHTS


def test_a_connection_lost_within_a_file_is_taken_up_again(hub, files):
    hub.fail("PUT", "/storage/", after_bytes=1000)
    upload("ann/x", files, message="m")
    assert hub.content("ann/x", "model.safetensors") == WEIGHTS


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, files):
    hub.fail("POST", "/commit/", after_effect=True)
    upload("ann/x", files, message="m")
    assert [summary for _, summary, _ in hub.repositories["ann/x"].branches["main"]] == ["initial commit", "m"]


def test_after_an_upload_that_failed_the_same_call_sends_only_the_rest(hub, files, tmp_path):
    second = tmp_path / "optimizer.bin"
    second.write_bytes(WEIGHTS[::-1])
    files = [*files, RepoFile.of("optimizer.bin", second)]
    upload("ann/x", files[:2], message="m")
    hub.fail("PUT", "/storage/", times=99, after_bytes=1000)
    said = refused(files)
    assert "run the same command again: what is already there is not sent twice" in said
    hub.failures.clear()
    hub.requests.clear()
    upload("ann/x", files, message="m")
    assert hub.sent("PUT", "/storage/") == [len(WEIGHTS)]
    assert hub.content("ann/x", "optimizer.bin") == WEIGHTS[::-1]


def test_a_hub_that_stays_broken_is_said_to_be(hub, files):
    hub.fail("POST", "/commit/", times=99, status=503, body={"error": "on fire"})
    assert "the Hub fails (503: on fire), after several tries: run the same command again" in refused(files)


def test_a_hub_that_says_nothing_is_given_up(hub, files, monkeypatch):
    monkeypatch.setattr(upload_module, "_TIMEOUT_S", 0.2)
    hub.fail("POST", "repos/create", times=99, stall_s=30)
    assert "cannot be reached" in refused(files)


def test_the_session_of_the_library_waits_as_long_as_before(hub, files):
    before = get_session().timeout
    upload("ann/x", files, message="m")
    assert get_session().timeout == before


def test_too_many_requests_are_said_to_be(hub, files):
    hub.fail("POST", "repos/create", times=99, status=429, headers={"RateLimit": '"api";r=0;t=55'})
    assert "the Hub asks for fewer requests" in refused(files)


@pytest.mark.parametrize("token", ["hf_" + "wrongcanary" * 3, "no hub token at all"])
def test_a_wrong_token_is_refused_and_never_said(token, hub, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    said = refused(files)
    assert "the Hub refuses the token" in said
    assert "hf auth login" in said
    assert token not in said


def test_a_token_that_the_hub_repeats_is_hidden(hub, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "unusual-canary")
    hub.fail("GET", "whoami", times=9, status=403, body={"error": "token unusual-canary is blocked"})
    said = refused(files)
    assert "unusual-canary" not in said
    assert "is blocked" in said


def test_a_token_that_may_only_read_is_told_before_anything_else(hub, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    assert "may only read" in refused(files)
    assert not hub.sent("POST", "create")


def test_a_token_that_cannot_be_one_is_said_to_be_the_matter(hub, files, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ключ")
    said = refused(files)
    assert "the token for the Hub holds characters that no token has" in said
    assert "ключ" not in said


@pytest.mark.parametrize("revision", ["a b", "-x", "a..b", "x.lock", "/x", "x/", "a~1", "", "a//b", "é"])
def test_what_can_be_no_branch_is_refused_without_a_request(revision, hub, files):
    with pytest.raises(HubError, match="is no branch"):
        upload("ann/x", files, message="m", revision=revision)
    assert not hub.requests


def test_without_a_token_the_line_says_how_to_get_one(hub, files, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token for the Hub: log in with hf auth login" in refused(files)


def test_a_token_kept_by_hf_auth_login_is_used(hub, files, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text(TOKEN)
    upload(full_repo_id("x"), files, message="m")
    assert "ann/x" in hub.repositories


def test_a_namespace_of_others_is_refused(hub, files):
    said = refused(files, "bob/x")
    assert "the token may not write to bob/x" in said
    assert "write access to bob" in said


def test_a_pull_request_to_what_is_not_there_names_it(hub, files):
    assert "there is no ann/nothing that this token may see" in refused(files, "ann/nothing", create_pr=True)


def test_no_network_is_one_line(hub, files, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    said = refused(files)
    assert "the Hub at http://127.0.0.1:9 cannot be reached" in said
    assert "check the network" in said


def test_tries_again_say_whether_the_hub_was_reached_at_all(hub, files, monkeypatch, caplog):
    hub.fail("GET", "whoami", status=503)
    with caplog.at_level(logging.INFO, logger="bertkit"):
        full_repo_id("x")
        assert [message[:37] for message in caplog.messages] == ["the Hub does not answer as it should;"]
        caplog.clear()
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        refused(files)
    assert {message[:26] for message in caplog.messages} == {"the Hub cannot be reached;"}


@pytest.mark.parametrize(
    "endpoint",
    ["bogus", "", "huggingface.co", "ftp://h", "http://", "https://a b", "http://[x", "http://h:abc", "http://h:99999"],
)
def test_an_endpoint_that_is_no_url_is_told_before_anything_else(endpoint, hub, files, monkeypatch, caplog):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.delenv("HF_TOKEN")
    with caplog.at_level(logging.INFO, logger="bertkit"):
        assert f"HF_ENDPOINT {endpoint!r} is no URL: give http(s)://" in refused(files)
    assert not caplog.messages


def test_offline_mode_is_one_line(hub, files, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(files)


def test_metadata_that_the_hub_refuses_is_told_before_a_byte_is_sent(hub, files):
    wrong = [RepoFile.of("README.md", b"---\nlicense: gpl-17\n---\n"), *files[1:]]
    said = refused(wrong)
    assert 'the Hub refuses the metadata of the card ("license' in said.replace("\\", "")
    assert hub.sent("PUT", "/storage/") == []


def test_a_file_that_is_gone_is_named(hub, files, tmp_path):
    (tmp_path / "model.safetensors").unlink()
    assert "model.safetensors" in refused(files)


@pytest.mark.parametrize("name", ["a/b/c", "", "a b/c", "../x", "a/", "/a/b", "x" * 97, "a--b/c", "ann/x.git", "~/x"])
def test_what_can_be_no_repository_is_refused_without_a_request(name, hub):
    with pytest.raises(HubError, match="is no repository"):
        require_repo_id(name)
    assert hub.requests == []


def test_progress_says_what_is_tried_again_and_no_address(hub, files, caplog):
    hub.fail("POST", "repos/create", status=503)
    with caplog.at_level(logging.INFO, logger="bertkit"):
        upload("ann/x", files, message="m")
    assert "trying again" in caplog.text
    assert hub.url not in caplog.text


PUSH = """
import sys
from pathlib import Path
from bertkit.hub.upload import RepoFile, upload
files = [RepoFile.of(path.name, path) for path in sorted(Path(sys.argv[1]).iterdir())]
for repo_id in sys.argv[2:]:
    print(upload(repo_id, files, message="m").is_new)
"""


@pytest.fixture
def pushing(hub, tmp_path):
    """A command that pushes two files of weights to the repositories it is given, in a process of its own."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.safetensors").write_bytes(random.Random(name).randbytes(300_000))
    return [sys.executable, "-c", PUSH, str(folder)]


def test_a_push_that_was_killed_is_finished_by_the_same_command(hub, pushing, tmp_path):
    command = [*pushing, "ann/killed"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment_of(hub, tmp_path)}
    hub.fail("POST", "/commit/", stall_s=60)
    with subprocess.Popen(command, **how) as killed:
        deadline = time.monotonic() + 60
        while hub.failures[0].times and time.monotonic() < deadline and killed.poll() is None:
            time.sleep(0.02)
        killed.kill()
        said = killed.communicate(timeout=30)
    assert hub.paths("ann/killed") == []
    assert hub.sent("PUT", "/storage/") == [300_000, 300_000]
    done = subprocess.run(command, timeout=60, **how)
    assert done.stdout == "True\n", done.stderr
    assert hub.sent("PUT", "/storage/") == [300_000, 300_000]
    assert hub.paths("ann/killed") == ["one.safetensors", "two.safetensors"]
    assert TOKEN not in "".join([*said, done.stdout, done.stderr])


def test_over_xet_too_nothing_is_sent_twice(hub, pushing, tmp_path):
    environment = environment_of(hub, tmp_path, HF_HUB_DISABLE_XET="0")
    command = [*pushing, "ann/first", "ann/second", "ann/first"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr
    assert hub.paths("ann/first") == hub.paths("ann/second") == ["one.safetensors", "two.safetensors"]
    sent = sum(hub.sent("POST", "/cas/v1/xorbs/"))
    assert 600_000 <= sent < 610_000
    assert hub.sent("PUT", "/storage/") == []
    assert not any(token in done.stdout + done.stderr for token in (TOKEN, XET_TOKEN))


def test_a_hub_without_xet_says_how_to_do_without(hub, pushing, tmp_path):
    hub.fail("GET", "xet-write-token", times=99, status=404)
    environment = environment_of(hub, tmp_path, HF_HUB_DISABLE_XET="0")
    done = subprocess.run([*pushing, "ann/x"], capture_output=True, text=True, timeout=60, env=environment)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bertkit.errors.HubError: ann/x could not be pushed")
    assert "HF_HUB_DISABLE_XET=1 where this Hub has no xet storage" in last
