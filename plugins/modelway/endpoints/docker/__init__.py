"""Endpoint ``docker``: containers of a Docker engine, here or elsewhere, behind a gateway's container."""
