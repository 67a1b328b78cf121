"""What the endpoints on Google Cloud share: where they are, how a change goes on, and what counts it."""
