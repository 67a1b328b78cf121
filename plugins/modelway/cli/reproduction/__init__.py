"""What running a version again takes."""
