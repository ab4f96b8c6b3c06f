"""Run directories of both kinds, the remote ones on a real S3 server."""

from s3_server import proxy, s3_endpoint, s3_environment, s3_url, store  # noqa: F401
