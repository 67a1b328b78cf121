"""JSON as the API answers it."""

import json
from typing import Any

import orjson
from fastapi.responses import JSONResponse

from modelway.lineage.records.values import plain


class JsonAnswer(JSONResponse):
    """Records as JSON: what is not finite is its name, times are ISO 8601."""

    def render(self, content: Any) -> bytes:
        """Write a record, or data that holds some."""
        data = plain(content)
        try:
            return orjson.dumps(data)
        except TypeError:
            # A number of more than 64 bits, or text that is half of a character.
            return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
