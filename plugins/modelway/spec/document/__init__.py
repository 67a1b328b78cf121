"""YAML text to plain values and back."""
