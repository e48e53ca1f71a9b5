"""The inputs of every case, made once."""

import pytest
from fault_runs import write_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))
