"""Where model versions serve, and how traffic is split between them."""
