"""Endpoint ``local``: server processes on this machine behind a gateway."""
