"""Drift and quality of what serves: bins, their comparison with those of freezing, and the decision to retrain."""
