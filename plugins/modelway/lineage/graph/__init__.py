"""What came of what."""
