"""How a model's image is made: one file per builder, its name is the YAML value."""
