"""A real S3 server and its proxy, for runs on S3."""

from s3_server import proxy, s3_endpoint, s3_environment, s3_url  # noqa: F401
