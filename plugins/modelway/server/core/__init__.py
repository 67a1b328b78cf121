"""The model, its inputs and outputs, and what the server may take of the machine."""
