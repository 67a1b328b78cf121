"""Runs inside a model's image and answers the Open Inference Protocol v2 over REST; stands alone."""
