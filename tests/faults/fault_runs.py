"""Real bertkit processes on a corpus, a BERT and labelled rows that are tiny, and what is looked at behind them."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from toy_corpus import write_corpus
from toy_tasks import write_bert, write_examples

import bertkit

ROOT = Path(bertkit.__file__).parents[1]
SECONDS = 120
ENVIRONMENT = os.environ | {
    "ACCELERATE_USE_CPU": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": str(ROOT),
}
# Many shards and two worker processes for a corpus that fits on a page.
SMALL_SHARDS = (
    "import bertkit.workflows.prepare as p; p.SHARD_CHARS, p.LEAST_SHARDS_FOR_PROCESSES = 1000, 2; "
    "from bertkit.cli import main; main()"
)
DATA = ["--set=data.tokenizer.vocab_size=120", "--set=data.heldout_share=0.1", "--set=data.num_workers=1"]
# What cannot be equal: when and where a run was made, and how fast.
UNEQUAL = ("environment.json", "metrics.jsonl", ".lock", "results.json", "checkpoint.json", "config.yaml")


def write_inputs(folder):
    """A corpus, a BERT and labelled rows."""
    write_corpus(folder / "corpus")
    write_bert(folder / "bert")
    write_examples(folder / "rows", "classification", number=96)
    return folder


def prepare_command(inputs, output_dir, *settings):
    return ["prepare", str(inputs / "corpus"), f"--output-dir={output_dir}", *DATA, *settings]


def pretrain_command(inputs, output_dir, *settings, steps=60):
    return [
        "pretrain",
        str(inputs / "corpus"),
        f"--output-dir={output_dir}",
        "--recipe=tiny",
        "--set=train.epochs=null",
        f"--set=train.max_steps={steps}",
        "--set=train.global_batch_size=8",
        "--set=train.precision=fp32",
        "--set=model.hidden_size=32",
        "--set=model.intermediate_size=64",
        "--set=model.hidden_dropout_prob=0.1",
        # A logged figure is a mean since the last one, or since a run was continued.
        "--set=every.log_steps=1",
        "--set=every.save_steps=1",
        *DATA,
        *settings,
    ]


def finetune_command(inputs, output_dir, *settings, steps=60):
    return [
        "finetune",
        "classify",
        f"--train={inputs / 'rows/train.jsonl'}",
        "--text=text",
        "--label=label",
        f"--from={inputs / 'bert'}",
        f"--output-dir={output_dir}",
        "--set=task.max_seq_length=32",
        f"--set=train.max_steps={steps}",
        "--set=train.global_batch_size=8",
        "--set=train.precision=fp32",
        "--set=optim.learning_rate=3e-3",
        # A logged figure is a mean since the last one, or since a run was continued.
        "--set=every.log_steps=1",
        "--set=every.save_steps=1",
        "--set=every.evaluate_steps=5",
        *settings,
    ]


def start(arguments, *, program=("-m", "bertkit"), log=None, **variables):
    """A process of bertkit under way with more environment `variables`, what it says going to the file `log`."""
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        return subprocess.Popen(
            [sys.executable, *program, *arguments], env=ENVIRONMENT | variables, stdout=out, stderr=subprocess.STDOUT
        )


def run(arguments, *, program=("-m", "bertkit"), preexec_fn=None):
    """A process of bertkit that came to its end."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        env=ENVIRONMENT,
        preexec_fn=preexec_fn,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def require_done(done):
    """That a process of `run` ended well."""
    assert done.returncode == 0, done.stderr
    return done


def require_one_line(done, *, exit_code=2):
    """That a process of `run` ended with one line of error; returns the line."""
    assert done.returncode == exit_code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def wait_for(condition, process=None, *, seconds=SECONDS):
    """Waits until `condition` is true, and says so; false once the process has ended."""
    until = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            return False
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.0005)
    return True


def kill(process):
    """SIGKILL; whether it hit, and with it the workers the process had started."""
    workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    hit = process.wait(SECONDS) == -signal.SIGKILL
    assert not psutil.wait_procs(workers, timeout=20)[1], "workers outlived the process that started them"
    return hit


def freeze_mid_write(process, folder, *, writes, after_s):
    """Freezes the process so many seconds into a write, after `writes` others; false once it has ended."""
    # What an earlier kill left half-written is not being written.
    seen = partial_files(folder)

    def begun():
        return partial_files(folder) - seen

    for _ in range(writes):
        if not wait_for(begun, process) or not wait_for(lambda: not begun(), process):
            return False
    while wait_for(begun, process):
        time.sleep(after_s)
        process.send_signal(signal.SIGSTOP)
        if begun():
            return True
        process.send_signal(signal.SIGCONT)
    return False


def partial_files(folder):
    """What is half-written under a folder, and when each was touched last."""
    found = set()
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files) if name.endswith(".partial")):
            with contextlib.suppress(FileNotFoundError):
                found.add((path, path.stat().st_ctime_ns))
    return found


def hashes(folder):
    """SHA-256 of every file under a folder that equal runs have in common, by name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in UNEQUAL]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def figures(run_dir):
    """The figures of `results.json` and of every logged step, without times."""

    def timeless(values):
        if isinstance(values, dict):
            return {name: timeless(value) for name, value in values.items() if not name.endswith(("_s", "_hash"))}
        return values

    results = json.loads((run_dir / "results.json").read_text())
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return timeless(results), [timeless(row) for row in rows]


def fresh_random():
    """Random numbers of this run of the suite, and the seed to have them again."""
    seed = int(os.environ.get("BERTKIT_FAULTS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"BERTKIT_FAULTS_SEED={seed}")
    return random.Random(seed)
