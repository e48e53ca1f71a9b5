"""The corpus that fits on a page, and the store made from it."""

import gc
import os

import pytest
from toy_corpus import write_corpus

# Tests run side by side on few cores: one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_finish():
    """Leaves what was imported out of garbage collection: accelerate asks for one after every run, 0.3 s each."""
    import hypothesis  # noqa: F401  # which asks the collector who refers to what it finds at its own import

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def store(corpus_dir, tmp_path_factory):
    from bertkit.config.data import DataConfig, TokenizerConfig
    from bertkit.data.store import TokenStore
    from bertkit.workflows.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared") / "store"
    config = DataConfig(num_workers=1, heldout_share=0.1, tokenizer=TokenizerConfig(vocab_size=120))
    prepare(str(corpus_dir), folder, config)
    return TokenStore.open(folder)
