"""Builder ``oci``: images without a daemon."""
