"""Prepare by tasks: the same bytes as without an executor, whoever runs the tasks and however often they stop."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import fsspec
import pytest
from toy_corpus import write_corpus

pytest.importorskip("datatrove")

import bertkit
from bertkit.config.schema import ClusterConfig, DataConfig, FilterConfig, TokenizerConfig
from bertkit.data.shard_cache import StoreCache
from bertkit.data.store import TokenStore
from bertkit.errors import ConfigError, CorpusError
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
    with pytest.raises(ConfigError, match=r"holds web archives: add --executor local.*Trafilatura"):
        prepare(str(many), tmp_path / "store", settings())
    monkeypatch.setitem(sys.modules, "warcio.archiveiterator", None)
    with pytest.raises(CorpusError, match=r"crawl.warc: web archives need further packages .*bertkit\[cluster\]"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(), executor="local")


def test_near_duplicates_go_but_one_of_each_stays(many, tmp_path, small_tasks):
    documents = (many / "1" / "animals.txt").read_text().split("\n\n")
    (many / "2" / "near.txt").write_text("\n\n".join(f"{text} Indeed." for text in documents[:5]))
    summary = prepare_on_cluster(str(many), tmp_path / "store", settings(cluster={"minhash": True}), executor="local")
    # Copies are like each other too: the 30 of the file that is there twice are taken as such.
    assert summary.dropped["near duplicate"] == 35
    assert "duplicate" not in summary.dropped
    assert summary.documents + summary.heldout_documents == 4 * 30 + 2


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("RegexFiltr", {}, r"datatrove has no filter 'RegexFiltr': did you mean 'RegexFilter'\?"),
        ("LambdaFilter", {}, r"datatrove has no filter 'LambdaFilter'"),
        ("RegexFilter", {"regexp": "x"}, r"RegexFilter has no argument 'regexp': did you mean 'regex_exp'\?"),
        ("RegexFilter", {}, r"RegexFilter: .*missing 1 required positional argument: 'regex_exp'"),
    ],
)
def test_a_filter_that_cannot_be_is_one_sentence(many, tmp_path, name, arguments, message):
    wrong = settings(cluster={"filters": (FilterConfig(name=name, arguments=arguments),)})
    with pytest.raises(ConfigError, match=message):
        prepare_on_cluster(str(many), tmp_path / "store", wrong, executor="local")
    assert not (tmp_path / "store").exists()


def test_what_needs_an_executor_or_cannot_have_one_says_so(many, tmp_path):
    with pytest.raises(ConfigError, match="need an executor: add --executor local"):
        prepare(str(many), tmp_path / "store", settings(cluster={"minhash": True}))
    with pytest.raises(ConfigError, match="is no local folder: add --executor local"):
        prepare(str(many), "memory://store", settings())
    with pytest.raises(ConfigError, match="drop_duplicate_lines needs one process"):
        prepare_on_cluster(str(many), tmp_path / "store", settings(drop_duplicate_lines=True), executor="local")
    assert not (tmp_path / "store").exists()


def test_a_missing_package_names_the_install(many, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_cluster, "find_spec", lambda name: None if name == "ray" else object())
    with pytest.raises(ConfigError, match=r"--executor ray needs ray: pip install 'bertkit\[cluster\]'"):
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


KILLED_DRIVER = """
import multiprocess, os, signal
import bertkit.workflows.prepare_cluster.executors
manager = multiprocess.Manager()
print(manager._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="looks for processes where Linux lists them")
def test_what_a_killed_preparation_started_ends_with_it():
    with subprocess.Popen([sys.executable, "-c", KILLED_DRIVER], stdout=subprocess.PIPE, text=True) as driver:
        manager = Path("/proc", driver.stdout.readline().strip())
        assert driver.wait() == -signal.SIGKILL
    assert manager.name.isdigit()
    for _ in range(200):
        if not manager.exists() or "State:\tZ" in (manager / "status").read_text():
            return
        time.sleep(0.1)
    pytest.fail(f"process {manager.name} goes on")


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


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands on the PATH; the script they ran is in the file this gives."""
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, source in STUBS.items():
        (commands / name).write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
        (commands / name).chmod(0o755)
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
