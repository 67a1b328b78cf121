"""One trigger for every backend."""
