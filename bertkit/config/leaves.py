"""What every section of a config is made of: a frozen, strict base, and the kinds of number there are."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def _number_or_auto(value: object) -> object:
    if value in ("auto", None) or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise PydanticCustomError("tokens", "give a number of tokens, 'auto' or null")


TokenBudget = Annotated[PositiveInt | Literal["auto"] | None, BeforeValidator(_number_or_auto)]

# Fields that change how a run is executed or watched, never which weights come out:
# a run folder continues under other values of these.
EXECUTION: JsonDict = {"execution_only": True}

MICRO_BATCH_TOKENS = (
    "Tokens a forward pass on one device, halved whenever memory runs out; 'auto': what suits the device; null: no "
    "bound."
)


class Section(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())
