"""A folder on any file system fsspec knows, here or far away; a file written to it is whole or absent."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
import numpy as np

from bertkit.errors import CorpusError
from bertkit.whole import written_whole


@dataclass(frozen=True)
class AnyFolder:
    """The folder at a path or URL; it holds no connection, so that it can be sent to other machines."""

    url: str

    @property
    def path(self) -> Path | None:
        """Where it lies on this machine; None when it lies elsewhere."""
        filesystem, root = self._place()
        protocol = filesystem.protocol
        return Path(root) if "file" in ((protocol,) if isinstance(protocol, str) else protocol) else None

    def below(self, name: str) -> "AnyFolder":
        """A folder inside this one."""
        return AnyFolder(f"{self.url.rstrip('/')}/{name}")

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name is there."""
        filesystem, root = self._place()
        return bool(filesystem.exists(_join(root, name)))

    def names(self) -> list[str]:
        """Names of the files and folders directly inside, sorted; none when the folder is not there."""
        filesystem, root = self._place()
        filesystem.invalidate_cache()
        try:
            return sorted(PurePosixPath(path).name for path in filesystem.ls(root, detail=False))
        except FileNotFoundError:
            return []

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """A file to read and seek in."""
        filesystem, root = self._place()
        with filesystem.open(_join(root, name), "rb") as file:
            yield file

    def read(self, name: str) -> bytes:
        """What a file holds."""
        with self.opened(name) as file:
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
        filesystem.get_file(_join(root, name), str(file))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        if self.path is None:
            filesystem, root = self._place(for_name=name)
            filesystem.pipe_file(_join(root, name), content)
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
            filesystem, root = self._place(for_name=name)
            filesystem.put_file(str(file), _join(root, name))
            return
        with self._written_here(name) as aside:
            shutil.copyfile(file, aside)

    def delete(self, name: str = "") -> None:
        """Delete a file or folder, if it is there."""
        filesystem, root = self._place()
        if self.exists(name):
            filesystem.rm(_join(root, name), recursive=True)

    @contextmanager
    def _written_here(self, name: str) -> Iterator[Path]:
        _, root = self._place()
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            yield aside

    def _place(self, *, for_name: str | None = None) -> tuple[Any, str]:
        """The file system and the folder's path in it; with a name, the folder that is to hold it is made."""
        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise CorpusError(
                f"{self.url!r} cannot be opened: {error}; give a local path or a URL fsspec opens"
            ) from error
        if for_name is not None:
            filesystem.makedirs(_join(root, for_name).rpartition("/")[0], exist_ok=True)
        return filesystem, root


def _join(root: str, name: str) -> str:
    return f"{root.rstrip('/')}/{name}" if name else root
