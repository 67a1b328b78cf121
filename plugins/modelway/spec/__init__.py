"""From the YAML of a model to a frozen ModelSpec, with every problem of every file found in one pass."""
