"""How two versions differ, by their records alone."""
