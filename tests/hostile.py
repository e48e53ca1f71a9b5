"""Hostile input, and a guard under which a command may end in a result or in one error line, and in nothing else."""

import contextlib
import faulthandler
import os
import re
import shutil
import signal
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bertkit.cli import app

HANG_S, GIVE_UP_S = 10, 100
MEMORY_FACTOR = 2
# Whatever goes on in threads of Arrow and of the tokenizers while memory is measured.
MEMORY_NOISE_KB = 1 << 15
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.truncate", "os.chmod"}
NEVER = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")

FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=False,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

DEEP = 4000
SPLICES = (
    b"\0", b"\0" * 4096, b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc0\xaf",
    b"\\ud83d", b"\\u0000", b"\\x", b"\\", b'"', b'""', b"'", b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\n\n\n",
    b"\x0c", b"\x1b[31m", b"\x1a", b"\x85", b"\xe2\x80\xa8", b"{", b"}", b"[", b"]", b":", b"- ", b"#", b"%", b"&a ",
    b"*a",
    b"-1", b"0", b"1e999", b"-0.0", b"NaN", b"Infinity", b"9" * 25, b"9" * 5000, b"0x7fffffff", b"18446744073709551616",
    b"null", b"true", b"[]", b"{}", b'{"a":' * DEEP, b"[" * DEEP, b"{" * DEEP, b"- " * DEEP, b"../../../x",
    b"/etc/passwd",
    b"%s%n", b"[red]x[/red]", b"[/red]", b"!!python/object/apply:os.system ['true']\n", b"!!binary x", b"<<: *x",
    "\u202e\u0301\u200d\U0001f468".encode(), "\u4e2d".encode() * 3000, b"x" * 300_000, b"a b " * 50_000, b"\n" * 50_000,
    b"PAR1", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0",
)  # fmt: skip
NAMES = (
    "a.txt", "a\nb.txt", "a\rb.txt", "\x1b[31m.txt", "-rf.txt", "..txt", "*.txt", "[a].txt", "~.txt", "$HOME.txt",
    "%s.txt", "{0}.txt", "a::b.txt", "zip:b.txt", "[red]b.txt", "[" + "/red].txt"[1:], "\udcff.txt", "\udcff\udcfe.txt",
    "\u202eb.txt", "n" * 250 + ".txt", " .txt", "b .TXT", "b.txt.gz", "b.jsonl", "b.csv", "b.parquet", "b.txt.zst",
    "\\.txt",
)  # fmt: skip


@dataclass(frozen=True)
class Sandbox:
    """A tree of folders in which only `output` may change; `output` lies deep, so that ../ stays in the tree."""

    root: Path

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def output(self) -> Path:
        return self.root / "a" / "b" / "c" / "output"

    def prepare(self) -> None:
        """An empty input and no output."""
        for folder in (self.input, self.output):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.input, self.output.parent, self.root / "home", self.root / "cwd"):
            folder.mkdir(parents=True, exist_ok=True)


@dataclass
class Guard:
    """Runs commands in a sandbox; the peak of the clean run, in KB, is what others are measured by."""

    sandbox: Sandbox
    clean_peak_kb: int = 0
    runner: CliRunner = field(default_factory=CliRunner)
    warm: set[str] = field(default_factory=set)

    def run_clean(self, *arguments: str, setup=lambda: None) -> None:
        """Run undamaged input, which must succeed; the most memory any of these takes is the measure."""
        shutil.rmtree(self.sandbox.output, ignore_errors=True)
        if arguments[0] not in self.warm:
            # The first time, modules are imported and the machine is asked what it is.
            setup()
            self.runner.invoke(app, list(arguments))
            self.warm.add(arguments[0])
        shutil.rmtree(self.sandbox.output, ignore_errors=True)
        setup()
        result, peak_kb = self._watched(arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        self.clean_peak_kb = max(self.clean_peak_kb, peak_kb)

    def run(self, *arguments: str) -> int:
        """Run a command on anything, hold it to the law, and return its exit code."""
        result, peak_kb = self._watched(arguments)
        limit_kb = MEMORY_FACTOR * self.clean_peak_kb + MEMORY_NOISE_KB
        assert peak_kb <= limit_kb, f"{peak_kb:,} KB at the peak, over {limit_kb:,}"
        require_result_or_one_line(result)
        return result.exit_code

    def _watched(self, arguments):
        before = snapshot(self.sandbox)
        # The peak begins anew at what is in memory now.
        Path("/proc/self/clear_refs").write_text("5")
        with warnings.catch_warnings(), _watching(self.sandbox.output) as deeds, _time_limit():
            warnings.simplefilter("ignore")
            result = self.runner.invoke(app, list(arguments))
        assert not deeds, f"outside the output folder: {deeds}"
        changed = snapshot(self.sandbox).symmetric_difference(before)
        assert not changed, f"changed outside the output folder: {sorted(changed)[:5]}"
        return result, peak_memory_kb()


def run(*arguments):
    """The result of a command that ends in a result or in one line."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    require_result_or_one_line(result)
    return result


def refused(*arguments) -> str:
    """The one line with which a command refuses."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return next(line for line in result.stderr.splitlines() if line.startswith("error: "))


def require_result_or_one_line(result) -> None:
    """No traceback; exit 0 with a result, or 2 with exactly one error line (a check may tell its errors instead)."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    said = result.stderr
    assert "Traceback" not in result.output, result.output
    assert not CONTROL.search(said), repr(said)
    assert result.exit_code in (0, 2), result.output
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if result.exit_code == 2 and not errors:
        assert "error: " in result.stdout or "Usage: " in said, result.output
    assert len(errors) <= 1, said
    assert result.exit_code == 2 or not errors, said


def snapshot(sandbox: Sandbox) -> set[tuple[str, int, int]]:
    """Every path in the sandbox outside the output, with its size and time."""
    found = set()
    for folder, subfolders, names in os.walk(sandbox.root):
        if Path(folder) == sandbox.output:
            subfolders.clear()
            continue
        for name in (*subfolders, *names):
            path = os.path.join(folder, name)  # noqa: PTH118
            status = os.lstat(path)
            # The time of a folder changes with what is written aside in it for a moment.
            times = 0 if name in subfolders else status.st_mtime_ns
            if path != str(sandbox.output):
                found.add((path, 0 if name in subfolders else status.st_size, times))
    return found


def peak_memory_kb() -> int:
    """The most memory that this process had since the peak was last cleared."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


@contextlib.contextmanager
def _time_limit():
    def stop(*_):
        raise TimeoutError(f"not done after {HANG_S} s")

    # Time of the processor, so that a busy machine breaks no law; what only waits is ended with its stack shown.
    handler = signal.signal(signal.SIGPROF, stop)
    faulthandler.dump_traceback_later(GIVE_UP_S, exit=True)
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def _watching(output: Path):
    """What was written, started, unpickled or connected to outside `output`, as the interpreter tells its auditors."""
    global _watched
    deeds, bytecode = [], sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    _watched = (str(output), deeds)
    try:
        yield deeds
    finally:
        _watched = None
        sys.dont_write_bytecode = bytecode


_watched = None


def _auditor(event, arguments):
    if _watched is None:
        return
    output, deeds = _watched
    if event in NEVER:
        deeds.append((event, str(arguments)[:200]))
        return
    if event == "open":
        if not isinstance(arguments[2], int) or not arguments[2] & WRITES:
            return
        paths = [(arguments[0], -1)]
    elif event in ("os.rename", "os.link"):
        paths = [(arguments[0], arguments[2]), (arguments[1], arguments[3])]
    elif event in CHANGES:
        paths = [(arguments[0], arguments[-1] if event in ("os.mkdir", "os.remove", "os.rmdir", "os.symlink") else -1)]
    else:
        return
    # What is written whole is written beside its place first, and so under a name of its own.
    beside = os.path.join(os.path.dirname(output), f".{os.path.basename(output)}.")  # noqa: PTH118, PTH119, PTH120
    for path, folder in paths:
        if isinstance(path, int):
            continue
        place = _place(os.fsdecode(path), folder)
        if place not in (output, os.devnull) and not place.startswith((f"{output}/", beside)):
            deeds.append((event, place))


def _place(path, folder):
    """The absolute path of what is named beneath an open folder."""
    base = os.readlink(f"/proc/self/fd/{folder}") if folder != -1 else os.getcwd()  # noqa: PTH109, PTH115
    return os.path.normpath(os.path.join(base, path))  # noqa: PTH118


sys.addaudithook(_auditor)


def any_of(values):
    """Strategy: one of these; unlike `sampled_from` it is not written out, megabytes of it, wherever it is named."""
    return st.integers(0, len(values) - 1).map(lambda number: values[number])


def damaged(whole: bytes, *, splices=SPLICES):
    """Strategy: these bytes after one to four edits."""
    place = st.integers(0, 10_000)
    edit = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(0, 7)),
        st.tuples(st.just("cut"), place, st.just(0)),
        st.tuples(st.just("drop"), place, st.integers(1, 200)),
        st.tuples(st.just("repeat"), place, st.integers(1, 2000)),
        st.tuples(st.just("insert"), place, any_of(splices)),
        st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=30)),
        st.tuples(st.just("line"), place, any_of(splices)),
        st.tuples(st.just("word"), place, any_of(splices)),
        st.tuples(st.just("encode"), st.sampled_from(["utf-16", "utf-32", "utf-7", "cp500"]), st.just(0)),
    )

    def apply(edits):
        value = whole
        for kind, where, what in edits:
            value = _edited(value, kind, where, what)
        return value

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def _edited(value: bytes, kind: str, where, what) -> bytes:
    if kind == "encode":
        return value.decode("utf-8", "replace").encode(where, "replace")
    at = where * len(value) // 10_001
    if kind == "flip":
        return value[:at] + bytes([value[at] ^ 1 << what]) + value[at + 1 :] if value else value
    if kind == "cut":
        return value[:at]
    if kind == "drop":
        return value[:at] + value[at + what :]
    if kind == "repeat":
        return value[:at] + value[at : at + what] * 2 + value[at + what :]
    if kind == "insert":
        return value[:at] + what + value[at:]
    # In the stead of a line or a word that lies there.
    around = re.compile(rb"[^\n]+" if kind == "line" else rb"\w+").search(value, at)
    return value if around is None else value[: around.start()] + what + value[around.end() :]


HOSTILE_VALUES = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**30, 0.0, -0.0, 1e-320, 1e308, float("inf"), float("nan"),
    "", " ", "x", "\0", "\ud83d", "\udcff", "../../../x", "/etc/passwd", "~/x", "[red]", "%s", "null", "1e999",
    "9" * 400,
    "\x1b[31m", "a\nb", "x" * 100_000, [], [None], [[]], {}, {"": None}, {"a": {"a": {}}}, {"x": [1, "a", None]},
    [{}] * 3, "(a+)+$", "*" * 50, "auto", "file", "heading:", "heading:(", "heading:(a|a)*$", "utf-16", "idna",
    "zlib", "rot13",
    "https://127.0.0.1:1/x", "hf://x/y", "gs://x", "memory://x", "file:///nowhere", "nobody/nothing",
)  # fmt: skip


@st.composite
def altered(draw, values):
    """Strategy: nested dicts and lists with one to three places changed, dropped, renamed or wrapped."""
    result = values
    for _ in range(draw(st.integers(1, 3))):
        paths = list(_paths(result))
        path = draw(st.sampled_from(paths))
        deed = draw(st.sampled_from(["put", "put", "put", "drop", "rename", "wrap"]))
        result = _changed(result, path, deed, draw(any_of(HOSTILE_VALUES)))
    return result


def _paths(values, path=()):
    if path:
        yield path
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield from _paths(value, (*path, key))
    if not path:
        yield ()


def _changed(values, path, deed, value):
    if not path:
        return value if deed == "put" else values
    key, *rest = path
    if isinstance(values, list):
        items = list(values)
        items[key] = _changed(items[key], rest, deed, value) if rest else value
        return items
    if rest:
        return {**values, key: _changed(values[key], rest, deed, value)}
    others = {name: item for name, item in values.items() if name != key}
    replacements = {"put": {key: value}, "drop": {}, "rename": {f"{key}x": values[key]}, "wrap": {key: [values[key]]}}
    return {**others, **replacements[deed]}
