"""What happened: models, versions, runs and everything that belongs to them, in a database of their own.

``records`` has plain dataclasses and imports nothing heavy; ``store`` needs SQLAlchemy.
"""
