"""Images as the OCI specifications have them: manifests, layouts, registries, unpacking."""
