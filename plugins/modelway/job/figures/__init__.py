"""What a job draws and counts."""
