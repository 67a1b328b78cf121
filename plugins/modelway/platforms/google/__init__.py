"""Google Cloud's APIs over REST: connection, credentials, calls, operations."""
