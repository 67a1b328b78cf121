"""Facts on their way to other systems."""
