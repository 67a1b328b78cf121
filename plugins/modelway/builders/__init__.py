"""How a model's image is made: one package per builder, its name is the YAML value."""
