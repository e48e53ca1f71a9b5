"""A Hugging Face Hub on loopback: real HTTP, its API for making, filling and reading repositories, and its failures.

Endpoints and answers as huggingface_hub 2.4 asks and reads them: whoami, create, validate-yaml, info, branch,
preupload, LFS batch, PUT and verify, commit, tree, resolve with ranges. Content is kept by hash, so nothing is asked
for twice. Of xet it takes what hf_xet 1.8 sends, and does not unpack it: what was pushed so cannot be read back.
"""

import base64
import hashlib
import json
import os
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "writercanary" * 3
READ_TOKEN = "hf_" + "readercanary" * 3
XET_TOKEN = "xetcanary"
OTHER_TOKEN = "hf_" + "strangercanary" * 3
USERS = {
    TOKEN: ("ann", "write"),
    READ_TOKEN: ("ann", "read"),
    OTHER_TOKEN: ("bob", "write"),
}
# Larger than this goes to LFS, as weights do.
LFS_SIZE = 10_000
_CARD = re.compile(r"^\s*---\n(.*?)\n---\s*(\n|$)", re.DOTALL)


@dataclass
class Repository:
    """Files by branch, each branch a list of commits, each commit the files by path with the hash of their content."""

    private: bool = False
    branches: dict = field(default_factory=lambda: {"main": [("0" * 40, "initial commit", {})]})
    pull_requests: int = 0

    def files(self, revision):
        for commits in self.branches.values():
            for sha, _, files in commits:
                if sha == revision:
                    return files
        return self.branches[revision][-1][2]


@dataclass
class Failure:
    """What becomes of the next `times` requests that match: a status, a lost connection, or none for `stall_s`."""

    method: str
    path: str
    times: int = 1
    status: int | None = None
    body: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)
    after_bytes: int | None = None  # read so many bytes of the body, then hang up
    stall_s: float | None = None
    after_effect: bool = False  # do what was asked, then hang up


@dataclass
class Hub:
    """What the server holds and has seen; `requests` are (method, path, bytes of the body)."""

    repositories: dict = field(default_factory=dict)
    blobs: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    xorbs: dict = field(default_factory=dict)  # what xet has sent, by hash
    url: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, method, path, **how):
        """The next requests of this method whose path matches go wrong."""
        self.failures.append(Failure(method, path, **how))

    def sent(self, method, path):
        """The bytes of the bodies of all requests that match."""
        return [size for m, p, size in self.requests if m == method and re.search(path, p)]

    def content(self, repo_id, path, revision="main"):
        """One file as it was pushed."""
        return self.blobs[self.repositories[repo_id].files(revision)[path]]

    def paths(self, repo_id, revision="main"):
        """The files of a branch."""
        return sorted(self.repositories[repo_id].files(revision))


@contextmanager
def hub_server():
    """A hub that answers at `hub.url` until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def use_hub(hub, monkeypatch, folder, *, token=TOKEN):
    """Makes huggingface_hub and transformers in this process talk to `hub`, with nothing kept from before."""
    from huggingface_hub import constants, hf_api

    # These keep the address they found when they were made.
    monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setenv("HF_TOKEN", token)


def environment_of(hub, folder, **more):
    """The variables with which another process talks to `hub`, with nothing kept from before."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    asked = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder), "HF_TOKEN": TOKEN}
    return {**own, **asked, "PYTHONPATH": str(Path(__file__).parents[1]), **more}


class _LostError(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    hub: Hub

    def log_message(self, *arguments):
        pass

    def handle(self):
        try:
            super().handle()
        except (_LostError, ConnectionError):
            self.close_connection = True

    def do_GET(self):
        self._answer("GET")

    def do_HEAD(self):
        self._answer("HEAD")

    def do_POST(self):
        self._answer("POST")

    def do_PUT(self):
        self._answer("PUT")

    def _answer(self, method):
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        failure = self._failure(method, path)
        if failure and failure.stall_s:
            self.hub.stopped.wait(failure.stall_s)
            self._lose()
        body = self._body(method, path, failure)
        if failure and not failure.after_effect:
            if failure.status is None:
                self._lose()
            return self._send(failure.status, failure.body, headers=failure.headers)
        for pattern, verb, name in _ROUTES:
            if verb == ("GET" if method == "HEAD" else method) and (found := re.fullmatch(pattern, path)):
                with self.hub.lock:
                    answer = getattr(self, name)(body, query, **found.groupdict())
                if failure:
                    self._lose()
                return self._send(*answer)
        return self._send(404, {"error": f"no route {path}"})

    def _failure(self, method, path):
        for failure in self.hub.failures:
            if failure.times and failure.method == method and re.search(failure.path, path):
                failure.times -= 1
                return failure
        return None

    def _lose(self):
        self.close_connection = True
        raise _LostError

    def _body(self, method, path, failure):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            length = int(self.headers.get("Content-Length") or 0)
            if failure and failure.after_bytes is not None:
                self.rfile.read(min(length, failure.after_bytes))
                self._lose()
            body = self.rfile.read(length)
        self.hub.requests.append((method, path, len(body)))
        return body

    def _send(self, status, body=b"", headers=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), **(headers or {})}
        headers.setdefault("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # -- who asks -------------------------------------------------------------------------------------------------

    def _user(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        return USERS.get(token, (None, None))

    def _may_write(self, owner):
        user, role = self._user()
        return user == owner and role == "write"

    def _whoami(self, body, query):
        user, role = self._user()
        if user is None:
            message = {"error": "Invalid credentials in Authorization header"}
            return 401, message, {"X-Error-Message": message["error"]}
        return 200, {"name": user, "type": "user", "orgs": [], "auth": {"accessToken": {"role": role}}}

    # -- repositories ---------------------------------------------------------------------------------------------

    def _create(self, body, query):
        asked = json.loads(body)
        user, _ = self._user()
        owner = asked.get("organization") or user
        if not self._may_write(owner):
            return 403, {"error": f'You don\'t have the rights to create a model under the namespace "{owner}"'}
        repo_id = f"{owner}/{asked['name']}"
        if repo_id in self.hub.repositories:
            return 409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{repo_id}"}
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repositories[repo_id] = Repository(private=bool(private))
        return 200, {"url": f"{self.hub.url}/{repo_id}", "name": repo_id}

    def _validate(self, body, query):
        """The rules of the Hub as far as they are written down, in huggingface.js and in the Hub's documentation."""
        found = _CARD.match(json.loads(body)["content"])
        errors = _metadata_errors(yaml.safe_load(found[1])) if found else ["the metadata is missing"]
        if errors:
            return 400, {"errors": [{"message": error} for error in errors], "warnings": []}
        return 200, {"errors": [], "warnings": []}

    def _repository(self, repo_id):
        repository = self.hub.repositories.get(repo_id)
        if repository is None or (repository.private and self._user()[0] != repo_id.partition("/")[0]):
            return None
        return repository

    def _info(self, body, query, repo_id, revision="main"):
        repository = self._repository(repo_id)
        if repository is None:
            return _NO_REPOSITORY
        if revision not in repository.branches and not re.fullmatch("[0-9a-f]{40}", revision):
            return 404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"}
        sha = repository.branches[revision][-1][0] if revision in repository.branches else revision
        siblings = [{"rfilename": path} for path in repository.files(revision)]
        return 200, {"id": repo_id, "modelId": repo_id, "sha": sha, "private": repository.private, "siblings": siblings}

    def _branch(self, body, query, repo_id, revision):
        repository = self._repository(repo_id)
        if revision in repository.branches:
            return 409, {"error": "Reference already exists"}
        repository.branches[revision] = list(repository.branches["main"])
        return 200, {}

    def _tree(self, body, query, repo_id, revision, path=None):
        repository = self._repository(repo_id)
        if repository is None:
            return _NO_REPOSITORY
        files = repository.files(revision)
        return 200, [self._entry(path, files[path]) for path in sorted(files)]

    def _entry(self, path, digest):
        content = self.hub.blobs[digest]
        entry = {"type": "file", "path": path, "size": len(content), "oid": _git_hash(content)}
        if len(content) > LFS_SIZE:
            entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return entry

    # -- sending ----------------------------------------------------------------------------------------------------

    def _preupload(self, body, query, repo_id, revision):
        repository = self._repository(repo_id)
        if repository is None:
            return _NO_REPOSITORY
        files = repository.files(revision)
        answer = []
        for asked in json.loads(body)["files"]:
            is_large = asked["size"] > LFS_SIZE
            digest = files.get(asked["path"])
            oid = None if digest is None else digest if is_large else _git_hash(self.hub.blobs[digest])
            mode = "lfs" if is_large else "regular"
            answer.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": answer, "commitOid": "0" * 40}

    def _batch(self, body, query, repo_id):
        if not self._may_write(repo_id.partition("/")[0]):
            return 403, {"error": "Forbidden"}
        objects = []
        for asked in json.loads(body)["objects"]:
            entry = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.blobs:
                upload = {"href": f"{self.hub.url}/storage/{asked['oid']}?X-Amz-Signature=signaturecanary"}
                verify = {"href": f"{self.hub.url}/{repo_id}.git/info/lfs/verify"}
                entry["actions"] = {"upload": upload, "verify": verify}
            objects.append(entry)
        return 200, {"transfer": "basic", "objects": objects}

    def _store(self, body, query, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "the content is not that of the hash"}
        self.hub.blobs[oid] = body
        return 200, b""

    def _verify(self, body, query, repo_id):
        asked = json.loads(body)
        stored = self.hub.blobs.get(asked["oid"])
        return (200, {}) if stored is not None and len(stored) == asked["size"] else (404, {"error": "not there"})

    def _commit(self, body, query, repo_id, revision):
        repository, is_request = self._repository(repo_id), query.get("create_pr") == ["1"]
        if repository is None:
            return _NO_REPOSITORY
        if not is_request and not self._may_write(repo_id.partition("/")[0]):
            return 403, {"error": "Forbidden"}
        files, summary = dict(repository.files(revision)), ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                summary = value["summary"]
            elif item["key"] == "file":
                content = base64.b64decode(value["content"])
                digest = hashlib.sha256(content).hexdigest()
                self.hub.blobs[digest] = content
                files[value["path"]] = digest
            elif item["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    return 404, {"error": f"{value['path']} is not there"}
            elif value["oid"] not in self.hub.blobs and not self.hub.xorbs:
                return 400, {"error": f"the LFS object of {value['path']} is missing"}
            else:
                self.hub.blobs.setdefault(value["oid"], b"?" * value["size"])
                files[value["path"]] = value["oid"]
        sha = hashlib.sha1(body + str(len(self.hub.requests)).encode()).hexdigest()
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}"}
        if is_request:
            repository.pull_requests += 1
            revision = f"refs/pr/{repository.pull_requests}"
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo_id}/discussions/{repository.pull_requests}"
        commits = repository.branches.setdefault(revision, [])
        commits.append((sha, summary, files))
        return 200, answer

    def _xet_token(self, body, query, repo_id, revision):
        return 200, {"accessToken": XET_TOKEN, "exp": int(time.time()) + 3600, "casUrl": f"{self.hub.url}/cas"}

    def _xorb(self, body, query, digest):
        was_new = self.hub.xorbs.setdefault(digest, body) is body
        return 200, {"was_inserted": was_new}

    def _shard(self, body, query):
        return 200, {"result": 1}

    # -- reading ----------------------------------------------------------------------------------------------------

    def _resolve(self, body, query, repo_id, revision, path):
        repository = self._repository(repo_id)
        if repository is None:
            return _NO_REPOSITORY
        if revision not in repository.branches and not re.fullmatch("[0-9a-f]{40}", revision):
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        files = repository.files(revision)
        sha = repository.branches[revision][-1][0] if revision in repository.branches else revision
        if path not in files:
            return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
        content = self.hub.blobs[files[path]]
        etag = files[path] if len(content) > LFS_SIZE else _git_hash(content)
        headers = {
            "X-Repo-Commit": sha, "ETag": f'"{etag}"', "X-Linked-Size": str(len(content)), "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }  # fmt: skip
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(found[1]), int(found[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return 206, content[first : last + 1], headers
        return 200, content, headers


_NO_REPOSITORY = (401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
_REPO = r"(?P<repo_id>[\w.-]+/[\w.-]+)"
_REV = r"(?P<revision>refs/pr/\d+|[^/]+)"
_ROUTES = (
    ("/api/whoami-v2", "GET", "_whoami"),
    ("/api/repos/create", "POST", "_create"),
    ("/api/validate-yaml", "POST", "_validate"),
    (f"/api/models/{_REPO}/branch/{_REV}", "POST", "_branch"),
    (f"/api/models/{_REPO}/preupload/{_REV}", "POST", "_preupload"),
    (f"/api/models/{_REPO}/commit/{_REV}", "POST", "_commit"),
    (f"/api/models/{_REPO}/revision/{_REV}", "GET", "_info"),
    (f"/api/models/{_REPO}/tree/{_REV}(?:/(?P<path>.*))?", "GET", "_tree"),
    (f"/api/models/{_REPO}", "GET", "_info"),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", "POST", "_batch"),
    (rf"/{_REPO}\.git/info/lfs/verify", "POST", "_verify"),
    (f"/api/models/{_REPO}/xet-write-token/{_REV}", "GET", "_xet_token"),
    ("/cas/v1/xorbs/default/(?P<digest>[0-9a-f]{64})", "POST", "_xorb"),
    ("/cas/v1/shards", "POST", "_shard"),
    ("/storage/(?P<oid>[0-9a-f]{64})", "PUT", "_store"),
    (f"/{_REPO}/resolve/{_REV}/(?P<path>.+)", "GET", "_resolve"),
)


def _git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _metadata_errors(data):
    """What the Hub would refuse: wrong types, unknown tags, a model-index without what a leaderboard needs."""
    if not isinstance(data, dict):
        return ["the metadata is no mapping"]
    errors = [
        f'"{key}" must be a string' for key in ("license", "pipeline_tag", "library_name") if _not(data, key, str)
    ]
    errors += [f'"{key}" must be a list' for key in ("tags", "datasets", "metrics") if _not(data, key, list)]
    if data.get("pipeline_tag") not in (None, *_PIPELINE_TAGS):
        errors.append(f'"pipeline_tag" must be one of {", ".join(_PIPELINE_TAGS)}')
    if data.get("license") not in (None, *_LICENSES):
        errors.append(f'"license" must be one of {", ".join(_LICENSES)}')
    for entry in data.get("model-index", []):
        if not entry.get("name"):
            errors.append("model-index[0].name is required")
        for result in entry.get("results", []):
            for path in ("task.type", "dataset.type", "dataset.name"):
                section, key = path.split(".")
                if not isinstance(result.get(section, {}).get(key), str):
                    errors.append(f"model-index[0].results[0].{path} is required")
            for metric in result.get("metrics") or [{}]:
                if "type" not in metric or not isinstance(metric.get("value"), int | float | str):
                    errors.append("model-index[0].results[0].metrics[0] needs a type and a value")
    return errors


def _not(data, key, kind):
    return data.get(key) is not None and not isinstance(data[key], kind)


_PIPELINE_TAGS = (
    "fill-mask", "text-classification", "token-classification", "question-answering", "multiple-choice",
    "feature-extraction", "sentence-similarity",
)  # fmt: skip
_LICENSES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "openrail", "other", "unknown")
