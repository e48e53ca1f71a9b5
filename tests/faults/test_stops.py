"""Signals: training saves at the end of its step, everything else stops at once, and the same command goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest
from fault_runs import (
    ENVIRONMENT,
    SECONDS,
    figures,
    finetune_command,
    hashes,
    pretrain_command,
    require_done,
    run,
    start,
    wait_for,
)

from bertkit.train.checkpoint import latest_checkpoint, list_checkpoints

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

UNSAVED = "--set=every.save_steps=null"
SLOW_STEPS = (
    "import time, bertkit.train.loop as loop; add = loop.add_gradients; "
    "loop.add_gradients = lambda *a, **k: (time.sleep(1.5), add(*a, **k))[-1]; from bertkit.cli import main; main()"
)
# However late a signal comes on a busy machine, it finds the end of a run still going on.
SLOW_EXPORT = (
    "import time, bertkit.workflows.export as export; to_stock = export.to_stock; "
    "export.to_stock = lambda model: (time.sleep(3), to_stock(model))[1]; from bertkit.cli import main; main()"
)
CHAINS = {
    "pretrain": (
        pretrain_command,
        [
            ("SIGTERM", "preparing"),
            ("SIGUSR1", "pre-training"),
            ("SIGINT", "step 20 ("),
            ("SIGTERM", "step 60 ("),
            ("SIGUSR1", "step 100 ("),
            ("SIGTERM", "evaluating\n"),
            ("SIGUSR1", "exporting\n"),
            ("SIGINT", "exporting\n"),
        ],
    ),
    "finetune": (
        finetune_command,
        [
            ("SIGUSR1", "reading the examples"),
            ("SIGTERM", "step 20 ("),
            ("SIGINT", "step 60 ("),
            ("SIGUSR1", "step 100 ("),
            ("SIGINT", "scoring\n"),
            ("SIGTERM", "exporting\n"),
        ],
    ),
}


def said(log, text):
    return log.exists() and text in log.read_text()


def signalled_at(text, number, arguments, log, *, program):
    """A process that was sent a signal as soon as it had said something; its exit code and all it said."""
    process = start(arguments, program=program, log=log)
    assert wait_for(lambda: said(log, text), process), log.read_text()
    process.send_signal(number)
    return process.wait(SECONDS), log.read_text()


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_a_run_stopped_by_every_signal_in_every_part_ends_as_if_left_in_peace(name, inputs, tmp_path):
    command, chain = CHAINS[name]
    require_done(run(command(inputs, tmp_path / "peace", UNSAVED, steps=150)))
    steps = [0]
    for place, (sent, text) in enumerate(chain):
        arguments, log = command(inputs, tmp_path / "stopped", UNSAVED, steps=150), tmp_path / f"log-{place}"
        exit_code, spoken = signalled_at(text, signal.Signals[sent], arguments, log, program=("-c", SLOW_EXPORT))
        assert exit_code == 128 + signal.Signals[sent], spoken
        assert "Traceback" not in spoken, spoken
        saved = latest_checkpoint(tmp_path / "stopped/checkpoints")
        if text.startswith("step"):
            assert spoken.splitlines()[-1].startswith(f"stopped by {sent}"), spoken
            assert saved.step >= int(text.split()[1])
        steps.append(saved.step if saved else 0)
    assert steps == sorted(steps)
    require_done(run(command(inputs, tmp_path / "stopped", UNSAVED, steps=150)))
    assert hashes(tmp_path / "stopped/export") == hashes(tmp_path / "peace/export")
    assert figures(tmp_path / "stopped") == figures(tmp_path / "peace")


def test_a_second_ctrl_c_interrupts_at_once_and_the_last_checkpoint_stays(inputs, tmp_path):
    arguments = pretrain_command(inputs, tmp_path / "run")
    process = start(arguments, program=("-c", SLOW_STEPS), log=tmp_path / "log")
    assert wait_for(lambda: said(tmp_path / "log", "step 2 ("), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    assert process.wait(SECONDS) == 130
    assert time.monotonic() - began_s < 60
    spoken = (tmp_path / "log").read_text()
    assert spoken.splitlines()[-1].startswith("error: interrupted; the same command goes on"), spoken
    assert latest_checkpoint(tmp_path / "run/checkpoints").step == 2


def test_ctrl_c_that_a_launcher_passes_on_once_more_is_one_ctrl_c(inputs, tmp_path):
    arguments = pretrain_command(inputs, tmp_path / "run", UNSAVED)
    # As a launcher sets it; once training has begun, or accelerate would look for the other processes.
    launched = SLOW_STEPS.replace("time.sleep(1.5)", "os.environ.update(LOCAL_RANK='0'), time.sleep(1.5)")
    process = start(arguments, program=("-c", f"import os; {launched}"), log=tmp_path / "log")
    assert wait_for(lambda: said(tmp_path / "log", "step 2 ("), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 130
    assert "everything is saved" in (tmp_path / "log").read_text()
    assert latest_checkpoint(tmp_path / "run/checkpoints").step == 3


def test_ctrl_c_on_a_terminal_saves_a_run_of_torchrun(inputs, tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as out:
        launcher = subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "bertkit"),
                *pretrain_command(inputs, tmp_path / "run", UNSAVED, steps=100_000),
            ],
            env=ENVIRONMENT,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    assert wait_for(lambda: said(log, "step 20 ("), launcher), log.read_text()
    assert not list_checkpoints(tmp_path / "run/checkpoints")
    os.killpg(launcher.pid, signal.SIGINT)
    launcher.wait(SECONDS)
    assert "stopped by SIGINT" in log.read_text(), log.read_text()
    assert latest_checkpoint(tmp_path / "run/checkpoints").step >= 20
