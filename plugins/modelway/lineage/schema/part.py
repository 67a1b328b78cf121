"""What the parts of the lineage's facade have in common."""

from sqlalchemy import Engine


class LineagePart:
    """Methods that work on one engine, each in a transaction of its own. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        """Use an engine whose schema is current."""
        self._engine = engine
