"""The stock side of a training comparison: transformers' own BERT under its own Trainer.

Its batches hold the instances of ours, masked and padded ahead in a thread, so that its loader costs it nothing.
"""

import queue
import tempfile
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.training_args import OptimizerNames

from bertkit.data.collate import IGNORED, Batch, pad_rows
from bertkit.data.loader import PREFETCHED_STEPS, Position, Prefetched, StepBatch
from bertkit.train.setup import Precision
from bertkit.workflows.bench.ours import ENDLESS, WARM_UP_STEPS, Clock
from bertkit.workflows.bench.rates import Sizes
from bertkit.workflows.bench.request import device_type, quieten_transformers
from bertkit.workflows.bench.sides import Round, Worker, reset_peak
from bertkit.workflows.bench.work import TrainingWork


def build_stock(work: TrainingWork, precision: Precision, *, pad_to: int | None = None) -> Worker:
    """The stock side, warm; rows are padded to `pad_to` tokens, or to the longest of their batch."""
    quieten_transformers()
    device = device_type()
    base_bytes = reset_peak(device)
    model = work.stock_model()
    batches = _StockBatches(work, pad_to=pad_to)
    gate = _Gate(device, batches)
    with tempfile.TemporaryDirectory(prefix="bertkit-bench-") as folder:
        trainer = Trainer(
            model=model,
            args=_arguments(work, precision, folder=Path(folder), device=device),
            data_collator=lambda items: items[0],
            train_dataset=batches,
            callbacks=[gate],
        )
    # It would print to standard output, which is the result's.
    trainer.remove_callback(PrinterCallback)
    threading.Thread(target=gate.run, args=(trainer.train,), daemon=True).start()
    pace_s = gate.round(WARM_UP_STEPS).seconds[-1]
    settings = {
        "model": f"{type(model).__name__} ({model.config._attn_implementation}), Trainer",
        "precision": precision,
        "batch": f"{work.config.train.global_batch_size} a step, {work.stock_batch_size} a pass",
        "padding": f"to {pad_to}" if pad_to else "to the longest of the batch",
        "optimizer": str(OptimizerNames(trainer.args.optim).value),
    }
    return Worker(gate.round, pace_s=pace_s, settings=settings, base_bytes=base_bytes, device=device)


def _arguments(work: TrainingWork, precision: Precision, *, folder: Path, device: str) -> TrainingArguments:
    """Trainer's defaults, but for what a recipe says."""
    train, optim = work.config.train, work.config.optim
    return TrainingArguments(
        output_dir=str(folder),
        # An item of the data set is a padded batch already.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=train.global_batch_size // work.stock_batch_size,
        activation_checkpointing=train.gradient_checkpointing,
        max_steps=ENDLESS,
        learning_rate=optim.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=optim.weight_decay,
        adam_beta1=optim.beta1,
        adam_beta2=optim.beta2,
        adam_epsilon=optim.epsilon,
        max_grad_norm=optim.max_grad_norm,
        seed=train.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


class _Gate(TrainerCallback):
    """Lets a Trainer that runs in a thread make a round's steps, and holds it in between."""

    def __init__(self, device: str, batches: "_StockBatches") -> None:
        self._device, self._batches = device, batches
        self._asked: queue.Queue[int] = queue.Queue()
        self._done: queue.Queue[Round | BaseException] = queue.Queue()
        self._clock: Clock | None = None

    def run(self, train: Any) -> None:
        """Trains until the process ends."""
        try:
            train()
        except BaseException as error:
            self._done.put(error)

    def round(self, steps: int) -> Round:
        """Steps number 2 to `steps` + 1 from here on; the first waits for its data, and is not counted."""
        self._asked.put(steps)
        done = self._done.get()
        if isinstance(done, BaseException):
            raise done
        return done

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Waits to be asked, between rounds."""
        if self._clock is None:
            self._clock = Clock(self._device, self._asked.get())
            self._batches.begin(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ends the round with its last step."""
        clock = self._clock
        if clock is None:
            return
        clock.step()
        if clock.is_over:
            self._clock = None
            tokens, flops = self._batches.work_since_first(state.global_step)
            self._done.put(Round(clock.seconds, tokens, flops))


class _StockBatches(torch.utils.data.Dataset[Batch]):
    """Padded micro-batches of the instances of our loader, step for step; in order, whatever number is asked for."""

    def __init__(self, work: TrainingWork, *, pad_to: int | None) -> None:
        self._work, self._pad_to = work, pad_to
        self._sizes: dict[int, list[Sizes]] = {}
        self._first_step = 0
        self._prefetched = Prefetched(self._padded(), depth=PREFETCHED_STEPS)

    def __len__(self) -> int:
        return ENDLESS * (self._work.config.train.global_batch_size // self._work.stock_batch_size)

    def __getitem__(self, number: int) -> Batch:
        return next(self._prefetched)

    def begin(self, step: int) -> None:
        """A round begins behind `step` steps."""
        self._first_step = step

    def work_since_first(self, step: int) -> tuple[int, float]:
        """Real tokens and model FLOPs of the steps of a round that count, which ends behind `step` steps."""
        sizes = [each for number in range(self._first_step + 1, step) for each in self._sizes[number]]
        # The thread adds steps meanwhile.
        for number in list(self._sizes):
            if number < step:
                del self._sizes[number]
        return sum(each.num_tokens for each in sizes), sum(self._work.flops(each) for each in sizes)

    def _padded(self) -> Iterator[Batch]:
        size = self._work.stock_batch_size
        tokens = self._work.micro_batch_tokens
        loader = self._work.loader()
        limit = tokens if isinstance(tokens, int) else None
        for number, step in enumerate(loader.steps(Position(), micro_batch_tokens=limit)):
            self._sizes[number] = [Sizes.of(batch) for batch in step.micro_batches]
            rows = _rows_of(step)
            # Our loader sorts a step by length, where there is more than one pass; theirs does not.
            order = np.random.default_rng(number).permutation(len(rows))
            for first in range(0, len(rows), size):
                yield _pad([rows[place] for place in order[first : first + size]], pad_to=self._pad_to)


def _rows_of(step: StepBatch) -> list[dict[str, Any]]:
    """The instances of a step, masked as they are."""
    rows: list[dict[str, Any]] = []
    for batch in step.micro_batches:
        bounds = batch["cu_seqlens"].tolist()
        has_masks = "masked_positions" in batch
        tokens = {"input_ids": batch["input_ids"], "token_type_ids": batch["token_type_ids"]}
        if has_masks:
            labels_T = torch.full_like(batch["input_ids"], IGNORED)
            labels_T[batch["masked_positions"]] = batch["labels"]
            tokens["labels"] = labels_T
        whole = {name: batch[name] for name in ("next_sentence_label",) if name in batch}
        if not has_masks:
            whole["labels"] = batch["labels"]
        for place, (start, end) in enumerate(pairwise(bounds)):
            row = {name: values[start:end].numpy() for name, values in tokens.items()}
            rows.append(row | {name: values[place] for name, values in whole.items()})
    return rows


def _pad(rows: list[dict[str, Any]], *, pad_to: int | None) -> Batch:
    """The batch that transformers' collators make of rows."""
    batch = pad_rows(
        [row["input_ids"] for row in rows], [row["token_type_ids"] for row in rows], pad_id=0, multiple_of=pad_to
    )
    for name in ("labels", "next_sentence_label"):
        if name not in rows[0]:
            continue
        if isinstance(rows[0][name], torch.Tensor):
            batch[name] = torch.stack([row[name] for row in rows])
        else:
            labels_BS = torch.full_like(batch["input_ids"], IGNORED)
            for row_S, row in zip(labels_BS, rows, strict=True):
                row_S[: len(row[name])] = torch.from_numpy(row[name])
            batch[name] = labels_BS
    return batch
