"""Backend ``local``: jobs as processes on this machine."""
