"""What one examination came to."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: fine, worth a look, or in the way of a run; the text says what to do."""

    name: str
    status: Literal["ok", "warning", "problem"]
    text: str
