"""`bertkit serve`: a model behind a local page and a small JSON API."""
