"""Checkpoints are whole or absent, and trusted only after a look at every byte."""

import errno
import json
import logging

import pytest
import torch
from torch import nn

from bertkit.data.loader import Position
from bertkit.errors import CheckpointError
from bertkit.train import checkpoint as checkpoints
from bertkit.train.checkpoint import latest_checkpoint, list_checkpoints, open_checkpoint, restore, save_checkpoint
from bertkit.train.optim import build_optimizer
from bertkit.train.state import TrainState
from bertkit.whole import aside_of


def fresh_state(seed=0, name="adamw"):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    settings = {"learning_rate": 0.1, "weight_decay": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6}
    optimizer = build_optimizer(model, name=name, **settings)
    return TrainState(model, optimizer, seed=seed)


def advance(state, steps):
    for _ in range(steps):
        inputs = torch.arange(3, dtype=torch.float32)[None] + state.step
        state.model(inputs).square().sum().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.advance(Position(0, 0, state.step), tokens=3, instances=1)


def save(state, folder, **options):
    return save_checkpoint(state, folder, model=state.model, **options)


def load(path, state):
    restore(open_checkpoint(path), state, model=state.model, position=lambda saved: Position(**saved))


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_going_on_from_a_checkpoint_gives_the_same_bits_as_never_stopping(tmp_path, name):
    straight = fresh_state(name=name)
    advance(straight, 3)
    path = save(straight, tmp_path)
    advance(straight, 4)
    resumed = fresh_state(seed=1, name=name)
    load(path, resumed)
    assert (resumed.step, resumed.tokens, resumed.position) == (3, 9, Position(0, 0, 2))
    advance(resumed, 4)
    for mine, its in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_a_checkpoint_is_named_after_its_step_and_holds_no_pickle(tmp_path):
    state = fresh_state()
    advance(state, 2)
    path = save(state, tmp_path)
    assert path == tmp_path / "step-0000002"
    assert {file.name for file in path.iterdir()} == {"model.safetensors", "optimizer.safetensors", "checkpoint.json"}


def test_the_last_few_are_kept(tmp_path):
    state = fresh_state()
    for _ in range(4):
        advance(state, 1)
        save(state, tmp_path, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-0000004", "step-0000003"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lambda path: path.unlink()])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(tmp_path, caplog, file, damage):
    state = fresh_state()
    for _ in range(2):
        advance(state, 1)
        newest = save(state, tmp_path)
    damage(newest / file)
    with caplog.at_level(logging.WARNING, logger="bertkit"):
        assert latest_checkpoint(tmp_path).path.name == "step-0000001"
    assert "step-0000002 is damaged" in caplog.text
    assert file in caplog.text


def test_an_altered_counter_is_found(tmp_path):
    state = fresh_state()
    advance(state, 1)
    manifest_file = save(state, tmp_path) / "checkpoint.json"
    manifest_file.write_text(manifest_file.read_text().replace('"step": 1', '"step": 3'))
    with pytest.raises(CheckpointError, match="checkpoint.json was altered"):
        open_checkpoint(manifest_file.parent)


def test_going_on_behind_a_damaged_checkpoint_never_leaves_that_one_alone(tmp_path):
    state = fresh_state()
    for _ in range(2):
        advance(state, 1)
        save(state, tmp_path)
    truncate(tmp_path / "step-0000002" / "model.safetensors")
    load(latest_checkpoint(tmp_path).path, resumed := fresh_state())
    assert resumed.step == 1
    save(resumed, tmp_path, keep=1)
    assert latest_checkpoint(tmp_path).step == 1
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-0000001"]


def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (9_999_999, 10_000_000):
        (tmp_path / f"step-{step:07d}").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-10000000", "step-9999999"]


def test_where_no_checkpoint_is_whole_the_error_says_what_to_do(tmp_path):
    state = fresh_state()
    advance(state, 1)
    truncate(save(state, tmp_path) / "model.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint under .* is whole: remove the folder"):
        latest_checkpoint(tmp_path)


def test_a_folder_without_checkpoints_has_no_latest_one(tmp_path):
    assert latest_checkpoint(tmp_path) is None


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    state = fresh_state()
    advance(state, 1)
    manifest_file = save(state, tmp_path) / "checkpoint.json"
    manifest_file.write_text(json.dumps(json.loads(manifest_file.read_text()) | {"format_version": 99}))
    with pytest.raises(CheckpointError, match="has format 99 and this bertkit reads 1: use the bertkit"):
        open_checkpoint(manifest_file.parent)


def test_a_full_disk_leaves_nothing_half_written_and_says_so(tmp_path, monkeypatch):
    state = fresh_state()
    advance(state, 1)
    save(state, tmp_path)
    advance(state, 1)

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CheckpointError, match="the disk is full.*free some space"):
        save(state, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]


def test_what_a_kill_left_half_written_is_no_checkpoint_and_is_written_over(tmp_path):
    state = fresh_state()
    advance(state, 1)
    half = tmp_path / ".step-0000001.partial"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None
    save(state, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]


def test_what_a_kill_left_half_written_goes_with_the_next_checkpoint_of_another_step(tmp_path):
    state = fresh_state()
    aside_of(tmp_path / "step-0000002").mkdir()
    (aside_of(tmp_path / "step-0000002") / "model.safetensors").write_bytes(b"half")
    advance(state, 3)
    save(state, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000003"]


def test_a_checkpoint_that_a_run_removes_while_it_is_read_is_no_damage(tmp_path, monkeypatch, caplog):
    state = fresh_state()
    advance(state, 1)
    removed = save(state, tmp_path)
    fingerprint = checkpoints._fingerprint

    def meanwhile(path):
        if path.parent == removed and removed.exists():
            advance(state, 1)
            save(state, tmp_path, keep=1)
        return fingerprint(path)

    monkeypatch.setattr(checkpoints, "_fingerprint", meanwhile)
    assert latest_checkpoint(tmp_path).step == 2
    assert not removed.exists()
    assert not caplog.records


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    state = fresh_state()
    advance(state, 1)
    path = save(state, tmp_path)
    state.model = nn.Sequential(nn.Linear(3, 5))
    with pytest.raises(CheckpointError, match="model of another shape"):
        load(path, state)
