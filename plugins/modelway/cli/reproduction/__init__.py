"""Preparing a home in which a version is run again."""
