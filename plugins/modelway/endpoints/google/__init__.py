"""What the endpoints on Google Cloud share: where they are, how a change continues, and what counts their requests."""
