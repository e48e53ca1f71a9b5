"""A folder on any file system fsspec knows, here or far away; a file written to it is whole or absent."""

import io
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
import numpy as np

from bertkit.data.sources import is_local
from bertkit.errors import DISK_FULL, BertkitError, CorpusError
from bertkit.whole import written_whole


@dataclass(frozen=True)
class AnyFolder:
    """The folder at a path or URL; it holds no connection, so that it can be sent to other machines."""

    url: str

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine; None when it lies elsewhere."""
        filesystem, root = self._place()
        return Path(root) if is_local(filesystem) else None

    def below(self, name: str) -> "AnyFolder":
        """A folder inside this one."""
        return AnyFolder(f"{self.url.rstrip('/')}/{name}")

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name is there."""
        filesystem, root = self._place()
        with self._reaching(name):
            return bool(filesystem.exists(_join(root, name)))

    def names(self) -> list[str]:
        """Names of the files and folders directly inside, sorted; none when the folder is not there."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int | None]:
        """The bytes of the files and folders directly inside by name, None where the file system does not say."""
        filesystem, root = self._place()
        with self._reaching():
            filesystem.invalidate_cache()
            try:
                return {PurePosixPath(each["name"]).name: each.get("size") for each in filesystem.ls(root, detail=True)}
            except FileNotFoundError:
                return {}

    def make(self) -> None:
        """Make the folder and those above it, where the file system has folders."""
        filesystem, root = self._place()
        with self._reaching():
            filesystem.makedirs(root, exist_ok=True)

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """A file to read and seek in."""
        filesystem, root = self._place()
        with self._reaching(name):
            opened = filesystem.open(_join(root, name), "rb")
        with opened as file:
            yield file

    def read(self, name: str) -> bytes:
        """What a file holds."""
        with self.opened(name) as file, self._reaching(name):
            return file.read()

    def read_json(self, name: str) -> Any:
        """The value of a JSON file."""
        return json.loads(self.read(name))

    def read_arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        """The arrays of a file by name."""
        with np.load(io.BytesIO(self.read(name)), allow_pickle=False) as arrays:
            return dict(arrays)

    def fetch(self, name: str, file: Path) -> None:
        """Copy a file from here to a local place."""
        filesystem, root = self._place()
        with self._reaching(name):
            filesystem.get_file(_join(root, name), str(file))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        if self.path is None:
            filesystem, path = self._place_to_write(name)
            with self._reaching(name):
                filesystem.pipe_file(path, content)
            return
        with self._written_here(name) as aside:
            aside.write_bytes(content)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, the same for equal values."""
        self.write(name, (json.dumps(value, sort_keys=True, ensure_ascii=False) + "\n").encode())

    def write_arrays(self, name: str, **arrays: np.ndarray[Any, Any]) -> None:
        """Write a file of named arrays."""
        buffer = io.BytesIO()
        values: dict[str, Any] = dict(arrays)
        np.savez(buffer, **values)
        self.write(name, buffer.getvalue())

    def put(self, file: Path, name: str) -> None:
        """Copy a local file to here."""
        if self.path is None:
            filesystem, path = self._place_to_write(name)
            with self._reaching(name):
                filesystem.put_file(str(file), path)
            return
        with self._written_here(name) as aside:
            shutil.copyfile(file, aside)

    def delete(self, name: str = "") -> None:
        """Delete a file or folder, if it is there."""
        filesystem, root = self._place()
        with self._reaching(name):
            if filesystem.exists(_join(root, name)):
                filesystem.rm(_join(root, name), recursive=True)

    @contextmanager
    def _written_here(self, name: str) -> Iterator[Path]:
        _, root = self._place()
        path = Path(root) / name
        with self._reaching(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            # A task that a dead driver left running may write the same file as the one that was started since.
            with written_whole(path, token=secrets.token_hex(4)) as aside:
                yield aside

    def _place_to_write(self, name: str) -> tuple[Any, str]:
        """The file system and a file's path in it, whose folder is made."""
        filesystem, root = self._place()
        path = _join(root, name)
        with self._reaching(name):
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        return filesystem, path

    def _place(self) -> tuple[Any, str]:
        """The file system and the folder's path in it."""
        with self._reaching():
            try:
                filesystem, root = fsspec.core.url_to_fs(self.url)
            except (ImportError, ValueError) as error:
                raise CorpusError(
                    f"{self.url!r} cannot be opened: {error}; give a local path or a URL fsspec opens"
                ) from error
        return filesystem, root

    @contextmanager
    def _reaching(self, name: str = "") -> Iterator[None]:
        """Turns what any file system raises into an error that says what to do; a full disk is named by the caller."""
        try:
            yield
        except FileNotFoundError as error:
            raise CorpusError(
                f"{_join(self.url, name)} is missing: all processes and machines must see the same files there"
            ) from error
        except BertkitError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise CorpusError(
                f"{_join(self.url, name)} cannot be reached ({reason}): check the address, your access and the "
                "network, or choose another folder"
            ) from error


def _join(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}" if name else root
