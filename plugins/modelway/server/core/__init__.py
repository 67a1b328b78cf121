"""The model, its inputs and outputs, and limits for the server's use of the machine."""
