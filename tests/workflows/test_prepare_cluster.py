"""Prepare by tasks: the same bytes as without an executor, whoever runs the tasks and however often they stop."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import fsspec
import pytest
from toy_corpus import write_corpus

pytest.importorskip("datatrove")

import loguru
from datatrove.pipeline.base import PipelineStep

import bertkit
from bertkit.config.data import ClusterConfig, DataConfig, FilterConfig, TokenizerConfig
from bertkit.data import store_writer
from bertkit.data.any_folder import AnyFolder
from bertkit.data.shard_cache import StoreCache
from bertkit.data.store import TokenStore
from bertkit.errors import ConfigError, CorpusError
from bertkit.train.signals import StoppedError, stopped_at_once
from bertkit.workflows import prepare as single
from bertkit.workflows import prepare_cluster
from bertkit.workflows.prepare import prepare
from bertkit.workflows.prepare_cluster import executors, prepare_on_cluster, run, steps


def settings(*, cluster=None, **values):
    fixed = {"num_workers": 1, "heldout_share": 0.1, "tokenizer": TokenizerConfig(vocab_size=120)}
    return DataConfig(**fixed | values, cluster=ClusterConfig(**cluster or {}))


def content(folder: Path):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def many(tmp_path):
    """Five files of thirty documents, one file twice, and something of every other kind."""
    corpus = tmp_path / "corpus"
    for number in range(4):
        write_corpus(corpus / str(number), seed=number)
    shutil.copy(corpus / "0" / "animals.txt", corpus / "3" / "copy.txt")
    (corpus / "rows.jsonl").write_text('{"text": "The owl hears the owl near the river."}\nbroken\n{"text": ""}\n')
    (corpus / "table.csv").write_text('text\n"The ram sees the eel. The eel sees the ram."\n')
    (corpus / "latin.txt").write_bytes("Ein Käfer.".encode("latin-1"))
    (corpus / "picture.png").write_bytes(b"\x89PNG")
    return corpus


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(single, "SHARD_CHARS", 4000)
    monkeypatch.setattr(executors, "SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(executors, "LOOKS_AFTER_THE_END", 2)


@pytest.fixture
def small_tasks(monkeypatch):
    monkeypatch.setattr(run, "BYTES_A_MB", 60)  # of which a task takes 256


def test_tasks_write_the_bytes_that_one_process_writes(many, tmp_path, small_tasks):
    expected = prepare(str(many), tmp_path / "single", settings())
    summary = prepare_on_cluster(str(many), tmp_path / "tasks", settings(), executor="local")
    assert len(list((tmp_path / "tasks" / "shards").glob("train-*"))) > 5
    assert content(tmp_path / "tasks") == content(tmp_path / "single")
    assert (
        summary.dropped
        == expected.dropped
        == {"duplicate": 30, "empty": 1, "invalid row": 1}
        | {
            "undecodable": 1,
            "unsupported file": 1,
        }
    )
    assert TokenStore.open(tmp_path / "tasks").split("train").num_documents == summary.documents


def test_neither_the_number_of_workers_nor_the_size_of_tasks_changes_a_byte(many, tmp_path, small_tasks):
    prepare_on_cluster(str(many), tmp_path / "one", settings(), executor="local")
    coarse = settings(num_workers=2, cluster={"task_mb": 10_000})
    prepare_on_cluster(str(many), tmp_path / "coarse", coarse, executor="local")
    prepare_on_cluster(str(many), tmp_path / "two", settings(num_workers=2), executor="local")
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "coarse")


def test_any_file_system_in_and_out(many, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(f"{many}/", "/given/", recursive=True)
    prepare(str(many), tmp_path / "single", settings())
    try:
        prepare_on_cluster("memory://given", "memory://made", settings(), executor="local")
        memory.get("/made/", f"{tmp_path}/fetched/", recursive=True)
        made = TokenStore.open("memory://made", cache=StoreCache(tmp_path / "cache"))
        lengths = [len(shard.tokens) for shard in made.split("train").shards]
        again = prepare_on_cluster("memory://given", "memory://made", settings(), executor="local")
    finally:
        for folder in ("/given", "/made"):
            memory.rm(folder, recursive=True)
    assert content(tmp_path / "fetched") == content(tmp_path / "single")
    assert again.reused
    assert sum(lengths) == again.tokens
    prepare_on_cluster(f"file://{many}", f"file://{tmp_path}/url", settings(), executor="local")
    assert content(tmp_path / "url") == content(tmp_path / "single")


def test_an_interrupted_preparation_goes_on_where_it_stopped(many, tmp_path, small_tasks, monkeypatch):
    prepare(str(many), tmp_path / "single", settings())
    make_shard, made = steps.make_shard, []

    def interrupted(work, *arguments):
        if len(made) == 6:
            raise KeyboardInterrupt
        made.append(work.name)
        return make_shard(work, *arguments)

    a_shard_a_task = settings(cluster={"task_mb": 1})
    with monkeypatch.context() as patched:
        patched.setattr(run, "BYTES_A_MB", 15_000)
        patched.setattr(single, "SHARD_CHARS", 4000)
        patched.setattr(steps, "make_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_on_cluster(str(many), tmp_path / "tasks", a_shard_a_task, executor="local")
        assert not (tmp_path / "tasks" / "manifest.json").exists()
        with pytest.raises(CorpusError, match="is not finished"):
            TokenStore.open(tmp_path / "tasks")
        patched.setattr(steps, "make_shard", lambda work, *rest: made.append(work.name) or make_shard(work, *rest))
        patched.setattr(steps.CorpusReader, "run", None)  # must not be needed again
        prepare_on_cluster(str(many), tmp_path / "tasks", a_shard_a_task, executor="local")
    shards = [name for name in content(tmp_path / "single") if name.startswith("shards/")]
    # Three shards a task: two tasks were finished, none of whose shards was made twice.
    assert len(made) == len(shards) == len(set(made))
    assert content(tmp_path / "tasks") == content(tmp_path / "single")


def test_what_was_left_by_other_settings_goes(many, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(steps, "make_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_on_cluster(str(many), tmp_path / "store", settings(language="de"), executor="local")
    prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")
    prepare(str(many), tmp_path / "single", settings())
    assert content(tmp_path / "store") == content(tmp_path / "single")


def test_an_unfinished_preparation_by_tasks_is_begun_anew_without(many, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(steps, "make_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")
    prepare(str(many), tmp_path / "store", settings())
    prepare(str(many), tmp_path / "single", settings())
    assert content(tmp_path / "store") == content(tmp_path / "single")


def test_work_may_lie_elsewhere_and_other_files_there_stay(many, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "mine.txt").write_text("mine")
    elsewhere = settings(cluster={"work_dir": str(tmp_path / "shared")})
    prepare_on_cluster(str(many), tmp_path / "store", elsewhere, executor="local")
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["mine.txt"]
    assert prepare(str(many), tmp_path / "store", settings()).reused


def test_a_work_folder_that_is_none_is_one_sentence_and_nothing_is_begun(many, tmp_path):
    (tmp_path / "file").touch()
    wrong = settings(cluster={"work_dir": str(tmp_path / "file")})
    with pytest.raises(CorpusError, match=r"/file cannot be reached \(.*File exists.*choose another folder"):
        prepare_on_cluster(str(many), tmp_path / "store", wrong, executor="local")
    assert not list((tmp_path / "store").iterdir())


def test_no_text_stays_elsewhere_when_other_settings_take_over(many, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    elsewhere = {"work_dir": str(tmp_path / "shared")}
    with monkeypatch.context() as patched:
        patched.setattr(steps, "make_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_on_cluster(
                str(many), tmp_path / "store", settings(language="de", cluster=elsewhere), executor="local"
            )
    assert list((tmp_path / "shared").glob("bertkit-*/texts-*"))
    prepare_on_cluster(str(many), tmp_path / "store", settings(cluster=elsewhere), executor="local")
    assert not list((tmp_path / "shared").iterdir())


def test_a_store_that_another_process_made_before_the_lock_is_kept(many, tmp_path, monkeypatch):
    class Late(run.FolderLock):
        def __enter__(self):
            monkeypatch.setattr(run, "FolderLock", Late.__base__)
            prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")
            return super().__enter__()

    monkeypatch.setattr(run, "FolderLock", Late)
    with pytest.raises(CorpusError, match=r"other settings \(data.language\)"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(language="de"), executor="local")
    shutil.rmtree(tmp_path / "store")
    monkeypatch.setattr(run, "FolderLock", Late)
    assert prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local").reused


def test_what_a_kill_left_beside_a_complete_store_goes_and_the_users_own_stays(many, tmp_path):
    prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")
    made = content(tmp_path / "store")
    for name in ("work", store_writer.WORK_FOLDER):
        (tmp_path / "store" / name).mkdir()
        (tmp_path / "store" / name / "mine.txt").write_text("mine")
    with_mine = content(tmp_path / "store")
    assert prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local").reused
    assert content(tmp_path / "store") == with_mine
    shutil.rmtree(tmp_path / "store" / "work")
    (tmp_path / "store" / "preparing.json").write_text(json.dumps({"fingerprint": "0" * 32}))
    (tmp_path / "store" / ".manifest.json.0a1b.partial").write_text("{")
    assert prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local").reused
    assert content(tmp_path / "store") == made


def test_a_complete_store_that_lacks_a_shard_is_not_taken_for_one(many, tmp_path):
    prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")
    shard = next((tmp_path / "store" / "shards").glob("train-*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(CorpusError, match=rf"{shard.name} at .* has .* bytes instead of .*: delete .* prepare"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")
    shard.unlink()
    with pytest.raises(CorpusError, match=rf"{shard.name} at .* is missing: delete"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")
    shard.write_bytes(whole)
    assert prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local").reused


def test_a_killed_driver_that_was_making_its_mark_does_not_block_the_folder(many, tmp_path):
    for make in (prepare, partial(prepare_on_cluster, executor="local")):
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / ".preparing.json.0a1b.partial").write_text('{"finger')
        assert not make(str(many), tmp_path / "store", settings()).reused
        shutil.rmtree(tmp_path / "store")


def test_filters_of_the_recipe_are_applied_and_counted(many, tmp_path):
    owls = FilterConfig(name="RegexFilter", arguments={"regex_exp": "The owl"})
    summary = prepare_on_cluster(
        str(many), tmp_path / "store", settings(cluster={"filters": (owls,)}), executor="local"
    )
    # Of each file's thirty documents three are about owls, and so is a row.
    assert summary.dropped["filtered"] == 13
    shards = TokenStore.open(tmp_path / "store").split("train").shards
    assert not any("rows.jsonl" in name for shard in shards for name in shard.document_ids)


def test_what_a_formatter_changes_is_what_is_tokenised(many, tmp_path):
    (many / "marked.jsonl").write_text('{"text": "|||||\\nThe hen meets the hen.\\n|||||"}\n{"text": "|||"}\n')
    bars = FilterConfig(name="SymbolLinesFormatter", arguments={"symbols_to_remove": ["|"]})
    cleaned = settings(cluster={"filters": (bars,)})
    summary = prepare_on_cluster(str(many), tmp_path / "store", cleaned, executor="local")
    splits = [TokenStore.open(tmp_path / "store").split(name) for name in ("train", "heldout")]
    places = {
        name: len(shard.tokens)
        for split in splits
        for shard in split.shards
        for name in shard.document_ids
        if name.startswith("marked")
    }
    assert list(places) == ["marked.jsonl:1"]
    assert summary.dropped["filtered"] == 1
    assert TokenStore.open(tmp_path / "store").vocabulary.pieces.count("|") == 0


WARC = """WARC/1.0\r
WARC-Type: {kind}\r
WARC-Record-ID: <urn:uuid:{number}>\r
WARC-Target-URI: http://a.b/{number}\r
WARC-Date: 2024-01-01T00:00:00Z\r
Content-Type: text/plain\r
Content-Length: {size}\r
\r
{text}\r
\r
"""


def test_web_archives_are_read_with_an_executor(many, tmp_path):
    for package in ("warcio", "cchardet", "magic"):
        pytest.importorskip(package)
    texts = [f"The pig follows the pig to house number {number}. The bee sees it." for number in range(3)]
    records = [
        WARC.format(kind=kind, number=number, size=len(text), text=text)
        for number, (kind, text) in enumerate(zip(("conversion", "metadata", "conversion"), texts, strict=True))
    ]
    (many / "crawl.warc.wet").write_text("".join(records), newline="")
    summary = prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")
    splits = [TokenStore.open(tmp_path / "store").split(name) for name in ("train", "heldout")]
    places = {name for split in splits for shard in split.shards for name in shard.document_ids}
    assert {name for name in places if "crawl" in name} == {"crawl.warc.wet:1", "crawl.warc.wet:3"}
    assert summary.dropped["invalid row"] == 1
    (many / "crawl.warc.wet").write_text("no archive")
    with pytest.raises(CorpusError, match="crawl.warc.wet is no whole web archive"):
        prepare_on_cluster(str(many), tmp_path / "other", settings(), executor="local")


def test_web_archives_without_an_executor_or_the_packages_are_one_sentence(many, tmp_path, monkeypatch):
    (many / "crawl.warc").write_text("")
    with pytest.raises(
        ConfigError, match=r"holds web archives: prepare it with bertkit prepare --executor local.*Trafilatura"
    ):
        prepare(str(many), tmp_path / "store", settings())
    monkeypatch.setitem(sys.modules, "warcio.archiveiterator", None)
    with pytest.raises(CorpusError, match=r"crawl.warc: web archives need further packages .*datatrove\[io\]"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")


def test_near_duplicates_go_but_one_of_each_stays(many, tmp_path, small_tasks):
    documents = (many / "1" / "animals.txt").read_text().split("\n\n")
    (many / "2" / "near.txt").write_text("\n\n".join(f"{text} Indeed." for text in documents[:5]))
    summary = prepare_on_cluster(str(many), tmp_path / "store", settings(cluster={"minhash": True}), executor="local")
    # Copies are like each other too: the 30 of the file that is there twice are taken as such.
    assert summary.dropped["near duplicate"] == 35
    assert "duplicate" not in summary.dropped
    assert summary.documents + summary.heldout_documents == 4 * 30 + 2
    with pytest.raises(CorpusError, match=r"other settings \(data.cluster\): choose another"):
        prepare(str(many), tmp_path / "store", settings())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("RegexFiltr", {}, r"datatrove has no filter 'RegexFiltr': did you mean 'RegexFilter'\?"),
        ("LambdaFilter", {}, r"datatrove has no filter 'LambdaFilter'"),
        ("RegexFilter", {"regexp": "x"}, r"RegexFilter has no argument 'regexp': did you mean 'regex_exp'\?"),
        ("SamplerFilter", {"rate": 0.5}, r"SamplerFilter draws at random: give its argument 'seed' a number"),
        ("RegexFilter", {}, r"RegexFilter cannot be made .*missing 1 required positional argument: 'regex_exp'"),
        ("RegexFilter", {"regex_exp": "("}, r"RegexFilter cannot be made \(missing \)"),
    ],
)
def test_a_filter_that_cannot_be_is_one_sentence(many, tmp_path, name, arguments, message):
    wrong = settings(cluster={"filters": (FilterConfig(name=name, arguments=arguments),)})
    with pytest.raises(ConfigError, match=message):
        prepare_on_cluster(str(many), tmp_path / "store", wrong, executor="local")
    assert not (tmp_path / "store").exists()


def test_what_needs_an_executor_or_cannot_have_one_says_so(many, tmp_path):
    with pytest.raises(ConfigError, match="need an executor: prepare the corpus with bertkit prepare --executor local"):
        prepare(str(many), tmp_path / "store", settings(cluster={"minhash": True}))
    with pytest.raises(ConfigError, match="is no local folder: add --executor local"):
        prepare(str(many), "memory://store", settings())
    with pytest.raises(ConfigError, match="drop_duplicate_lines needs one process"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(drop_duplicate_lines=True), executor="local")
    assert not (tmp_path / "store").exists()


def test_a_missing_package_names_the_install(many, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_cluster, "is_installed", lambda name: name != "ray")
    with pytest.raises(ConfigError, match=r"--executor ray needs ray: pip install 'ray>=2.50,<3'"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="ray")


def test_a_place_that_holds_something_else_is_left_alone(many, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CorpusError, match="holds other files"):
        prepare_on_cluster(str(many), tmp_path, settings(), executor="local")
    for name in ("manifest.json", "preparing.json"):
        site = tmp_path / f"site-{name}"
        site.mkdir()
        (site / "shards").mkdir()
        (site / name).write_text('{"name": "of something else"}')
        with pytest.raises(CorpusError, match="holds other files"):
            prepare_on_cluster(str(many), site, settings(), executor="local")
        assert (site / "shards").exists()
    prepare(str(many), tmp_path / "store", settings())
    with pytest.raises(CorpusError, match=r"other settings \(data.language\): choose another"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(language="de"), executor="local")


def test_what_fails_in_another_process_is_said_in_one_sentence_and_mended_after(many, tmp_path, small_tasks):
    (many / "bad.csv").write_text("other\nx\n")
    with pytest.raises(CorpusError, match=r"bad.csv has no column 'text'; it has 'other'"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(num_workers=2), executor="local")
    (many / "bad.csv").unlink()
    assert not prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local").reused


class Killed(PipelineStep):
    """Stands for a task that the system kills because memory runs out."""

    name = type = "killed"

    def run(self, data=None, rank=0, world_size=1):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_whose_process_is_killed_is_one_sentence(tmp_path):
    stage = executors.Stage("killed", "killing", [Killed()], [1, 1])
    machines = executors.Machines("local", 2, ClusterConfig())
    with pytest.raises(CorpusError, match="a worker process was killed, most often because memory ran out"):
        executors.run_stage(stage, machines, logs=AnyFolder(str(tmp_path)), on_progress=lambda *_: None)


FORKING_HOST = """
import os, time
import bertkit.workflows.prepare_cluster.executors
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.05)
    time.sleep(1.5)
    print("outlived", flush=True)
os._exit(0)
"""


def test_a_process_the_host_program_forks_may_outlive_it():
    done = subprocess.run([sys.executable, "-c", FORKING_HOST], capture_output=True, text=True, timeout=120)
    assert done.stdout == "outlived\n", done.stderr


def test_the_host_programs_own_log_goes_on(many, tmp_path, monkeypatch):
    said = []
    handler = loguru.logger.add(said.append, format="{message}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no sbatch here"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="slurm")
    loguru.logger.info("still here")
    loguru.logger.remove(handler)
    assert said == ["still here\n"]


STUBS = {
    # Runs every task of the array, here and now: a cluster of one machine and no queue.
    "sbatch": """
        import os, re, subprocess, sys
        script = open(sys.argv[-1]).read()
        last = int(re.search(r"--array=0-(\\d+)", script)[1])
        with open(os.environ["STUB_LOG"], "a") as log:
            log.write(script + "\\n")
        for number in range(last + 1):
            task = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_JOB_ID": "7", "SLURM_NODELIST": "here"}
            subprocess.run(["bash", sys.argv[-1]], env=os.environ | task, stdout=2)
        print("Submitted batch job 7")
        """,
    "srun": """
        import os, sys
        command = sys.argv[sys.argv.index("-n") + 2 :]
        os.execvp(command[0], command)
        """,
    "scontrol": "print('here')",
    "squeue": "",
}


def stand_in(command: Path, source: str):
    command.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
    command.chmod(0o755)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands on the PATH; the script they ran is in the file this gives."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, source in STUBS.items():
        stand_in(commands / name, source)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "scripts.txt"))
    monkeypatch.setenv("PYTHONPATH", str(Path(bertkit.__file__).parents[1]))
    return tmp_path / "scripts.txt"


def test_slurm_runs_datatroves_job_arrays_to_the_same_bytes(many, tmp_path, slurm):
    asked = {"task_memory_gb": 1.5, "slurm": {"time": "01:00:00", "sbatch_args": {"account": "us"}}}
    prepare(str(many), tmp_path / "single", settings())
    prepare_on_cluster(str(many), tmp_path / "store", settings(cluster=asked), executor="slurm")
    assert content(tmp_path / "store") == content(tmp_path / "single")
    script = slurm.read_text()
    for line in ("--time=01:00:00", "--mem-per-cpu=1536M", "--account=us", "--job-name=bertkit-encode"):
        assert f"#SBATCH {line}\n" in script
    assert "--partition" not in script


def test_a_task_that_fails_on_slurm_is_said_in_one_sentence(many, tmp_path, slurm):
    (many / "bad.csv").write_text("other\nx\n")
    with pytest.raises(CorpusError, match=r"bad.csv has no column 'text'; it has 'other'"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="slurm")


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_a_filter_that_fails_is_named_with_the_log_of_it(many, tmp_path, slurm, executor):
    wrong = FilterConfig(name="SamplerFilter", arguments={"rate": "half", "seed": 1})
    with pytest.raises(CorpusError, match=r"SamplerFilter failed \(TypeError: .*'str'.*\): see ") as failed:
        prepare_on_cluster(str(many), tmp_path / "store", settings(cluster={"filters": (wrong,)}), executor=executor)
    log = Path(str(failed.value).rpartition(": see ")[2])
    assert "Traceback" in log.read_text()
    assert log.is_relative_to(tmp_path / "store")


def test_what_an_earlier_attempt_failed_of_is_not_told_again(many, tmp_path, slurm):
    (many / "bad.csv").write_text("other\nx\n")
    with pytest.raises(CorpusError, match="bad.csv has no column"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="slurm")
    stand_in(tmp_path / "commands" / "sbatch", "print('Submitted batch job 8')")
    with pytest.raises(CorpusError, match=r"1 of 1 tasks failed: see .*task_00000.log"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="slurm")


def test_what_jobs_are_to_do_is_for_its_owner_only(many, tmp_path, slurm):
    stand_in(tmp_path / "commands" / "sbatch", "print('Submitted batch job 8')")
    with pytest.raises(CorpusError, match="tasks failed"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="slurm")
    pickled = next((tmp_path / "store").rglob("executor.pik"))
    between = [folder for folder in pickled.parents if folder.is_relative_to(tmp_path / "store")]
    assert any(not folder.stat().st_mode & 0o077 for folder in between)


SENT = """
import os
with open(os.environ["STUB_LOG"], "a") as log:
    print("sent", file=log)
print("Submitted batch job", len(open(os.environ["STUB_LOG"]).readlines()))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_all_jobs_that_were_sent(many, tmp_path, slurm, small_tasks, number):
    stand_in(tmp_path / "commands" / "sbatch", SENT)
    stand_in(tmp_path / "commands" / "squeue", f"import os; os.kill(os.getppid(), {int(number)}); print('running')")
    cancelled = "import os, sys; open(os.environ['STUB_LOG'] + '.cancelled', 'w').write(' '.join(sys.argv[1:]))"
    stand_in(tmp_path / "commands" / "scancel", cancelled)
    one_a_job = settings(cluster={"slurm": {"max_array_size": 1}})
    with stopped_at_once(), pytest.raises((StoppedError, KeyboardInterrupt)):
        prepare_on_cluster(str(many), tmp_path / "store", one_a_job, executor="slurm")
    jobs = len(slurm.read_text().splitlines())
    assert jobs > 1
    assert Path(f"{slurm}.cancelled").read_text().split() == [str(job + 1) for job in range(jobs)]


@pytest.mark.parametrize("over", ["", "sys.exit('slurm_load_jobs error: Invalid job id specified')"])
def test_a_queue_that_cannot_be_asked_is_asked_again(many, tmp_path, slurm, caplog, over):
    asked = tmp_path / "asked"
    stand_in(tmp_path / "commands" / "sbatch", "print('Submitted batch job 8')")
    stand_in(
        tmp_path / "commands" / "squeue",
        f"""
        import pathlib, sys
        asked = pathlib.Path({str(asked)!r})
        asked.write_text((asked.read_text() if asked.exists() else "") + "asked\\n")
        if len(asked.read_text().splitlines()) < 3:
            sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
        {over}
        """,
    )
    with pytest.raises(CorpusError, match="1 of 1 tasks failed"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="slurm")
    assert asked.read_text().count("asked") == 3
    assert "Unable to contact slurm controller): asking again" in caplog.text


def test_a_job_array_is_no_place_to_send_job_arrays_from(many, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    with pytest.raises(ConfigError, match="start it outside of one"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="slurm")


def test_no_slurm_here_is_one_sentence(many, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no sbatch here"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="slurm")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's and datatrove's own: as errors in their threads they would hang the run
def test_a_real_ray_makes_the_same_bytes(many, tmp_path, small_tasks, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(Path(bertkit.__file__).parents[1]))
    prepare(str(many), tmp_path / "single", settings())
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    try:
        prepare_on_cluster(str(many), tmp_path / "store", settings(num_workers=2), executor="ray")
        assert ray.is_initialized()
        (many / "bad.csv").write_text("other\nx\n")
        with pytest.raises(CorpusError, match=r"bad.csv has no column 'text'; it has 'other'"):
            prepare_on_cluster(str(many), tmp_path / "other", settings(num_workers=2), executor="ray")
    finally:
        ray.shutdown()
    assert content(tmp_path / "store") == content(tmp_path / "single")
