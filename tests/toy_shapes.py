"""The smallest BERT that is still one, and how its page of text is prepared, as sections of a recipe."""

TINY_MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
TINY_DATA = {"num_workers": 1, "heldout_share": 0.1, "tokenizer": {"vocab_size": 120}}
TWO_PHASES = [{"max_seq_length": 32, "share": 0.75}, {"max_seq_length": 64, "share": 0.25}]
