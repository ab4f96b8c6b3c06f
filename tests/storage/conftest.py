"""A real S3 server, and both kinds of store."""

from s3_server import proxy, s3_endpoint, s3_environment, s3_url, store  # noqa: F401
