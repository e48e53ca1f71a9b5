"""bertkit: a folder of text to a pre-trained, fine-tuned, scored and published BERT."""

__version__ = "0.1.0"
