"""A model frozen to an ONNX program, and verified."""
