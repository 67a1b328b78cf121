"""Assets: files under a name, in versions that never change."""
