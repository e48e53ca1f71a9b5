"""An ONNX model in the place of a bertkit one: packed batches in, packed outputs out, so that all that scores can.

Shape letters: B rows, S row length, T packed tokens, I instances, M masked positions, V vocabulary.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from bertkit.model.packing import packed_layout

INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
# optimum's names. Both heads of pre-training are no task of optimum's; its masked LM class reads `logits`.
_OUTPUTS: Final = {
    "BertForPreTraining": ["logits", "seq_relationship_logits"],
    "BertForQuestionAnswering": ["start_logits", "end_logits"],
}
# Numbers of an output that are in memory at once, where every token has one for every word: 512 MB.
_OUTPUT_AT_ONCE: Final = 128 << 20


def output_names(stock: PreTrainedModel) -> list[str]:
    """What the outputs of a stock model with a head are called in ONNX, in order."""
    return _OUTPUTS.get(type(stock).__name__, ["logits"])


class OnnxModel(nn.Module):
    """A file run by onnxruntime on the CPU, with the packed door of bertkit's models."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self._session = session
        self._takes_choices = len(session.get_inputs()[0].shape) == 3
        self._outputs = {each.name: each.shape for each in session.get_outputs()}

    @classmethod
    def open(cls, path: Path) -> Self:
        """The model of a file, on as many threads as torch may use."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        return cls(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))

    def run(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs of padded rows [B, S], or [B, choices, S], in the order of the file."""
        found = self._session.run(None, {name: inputs[name].cpu().numpy() for name in INPUTS})
        return tuple(torch.from_numpy(each) for each in found)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        cu_seqlens: Tensor,
        masked_positions: Tensor | None = None,
        **_: Any,
    ) -> ModelOutput:
        """The outputs of packed tokens [T]; those of a token at `masked_positions` [M] only, in order of instances."""
        tokens_T2 = torch.stack([input_ids, token_type_ids], dim=1).cpu()
        wanted = torch.arange(len(tokens_T2)) if masked_positions is None else masked_positions.cpu()
        parts = []
        for start, bounds in self._parts(cu_seqlens.cpu()):
            end = start + int(bounds[-1])
            chosen = wanted[(wanted >= start) & (wanted < end)] - start
            parts.append(self._run_packed(tokens_T2[start:end], bounds, chosen))
        joined = [torch.cat(values).to(input_ids.device) for values in zip(*parts, strict=True)]
        return ModelOutput(zip(self._outputs, joined, strict=True))

    def _run_packed(self, tokens_T2: Tensor, cu_seqlens: Tensor, chosen: Tensor) -> list[Tensor]:
        layout = packed_layout(cu_seqlens, int(cu_seqlens.diff().max()), len(tokens_T2))
        rows_BS3 = layout.to_rows(torch.cat([tokens_T2, torch.ones_like(tokens_T2[:, :1])], dim=1))
        ids, types, mask = (rows[:, None] if self._takes_choices else rows for rows in rows_BS3.unbind(-1))
        found = self.run({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
        return [
            layout.to_tokens(values)[chosen] if shape[1] == "sequence" else values
            for values, shape in zip(found, self._outputs.values(), strict=True)
        ]

    def _parts(self, cu_seqlens: Tensor) -> Iterator[tuple[int, Tensor]]:
        """As many instances at a time as have room for their outputs: their first token, and their bounds from it."""
        longest = int(cu_seqlens.diff().max())
        widest = max([1, *(size for shape in self._outputs.values() for size in shape if isinstance(size, int))])
        instances = max(1, _OUTPUT_AT_ONCE // (longest * widest))
        for first in range(0, len(cu_seqlens) - 1, instances):
            bounds = cu_seqlens[first : first + instances + 1]
            yield int(bounds[0]), bounds - bounds[0]
