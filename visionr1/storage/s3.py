"""Runs on S3 and on what speaks its protocol.

Everything is set by the environment that AWS tools share: AWS_ENDPOINT_URL_S3, AWS_REGION (or AWS_DEFAULT_REGION),
AWS_CA_BUNDLE, AWS_RETRY_MODE, AWS_MAX_ATTEMPTS, AWS_PROFILE and the standard chain of credentials. The one setting of our own
is VISIONR1_S3_ADDRESSING_STYLE (`auto`, `path` or `virtual`): `auto` takes path style for an endpoint that is not AWS's.
The credentials need s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, s3:DeleteObject and
s3:AbortMultipartUpload.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from boto3.exceptions import Boto3Error, RetriesExceededError
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto
from botocore.config import Config

from visionr1.errors import BadInput
from visionr1.storage.store import (
    MOST_FILES,
    Damaged,
    Moved,
    NotFound,
    StorageError,
    check_key,
    os_errors,
    replacing,
    too_many_files,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

TRANSFER: Final = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=64 << 20, max_concurrency=16)
"""Parts of 64 MiB, 16 at a time; the limit of 10,000 parts then allows files of 625 GiB."""

_CONFLICT_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
"""Waits between the tries to create a key that another process is creating."""

DELETED_AT_ONCE: Final = 1000
"""Most keys that S3 takes in one request to delete."""

_SET_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the pod an IAM role"
_BAD_SETTINGS: dict[str, str] = {
    "NoSuchBucket": "there is no such bucket; create it or correct the run's address",
    "InvalidBucketName": "this cannot be a bucket's name; correct the run's address",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION to it",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION to it",
    "InvalidAccessKeyId": f"the access key is not known there; {_SET_CREDENTIALS}",
    "NotImplemented": "this server writes no key on a condition (If-None-Match, If-Match); use one that does",
    "SignatureDoesNotMatch": f"the secret key is wrong; {_SET_CREDENTIALS}",
}
_MAY_PASS: dict[str, str] = {
    "AccessDenied": "the credentials lack a permission; allow List, Get, Put, Delete and AbortMultipartUpload on the bucket",
    "403": "the credentials lack a permission; allow List, Get, Put, Delete and AbortMultipartUpload on the bucket",
    "ExpiredToken": "the credentials have expired; renew them",
    "RequestTimeTooSkewed": "this machine's clock is too far from the server's; set it right (by NTP), then start again",
}
_ON_THE_WAY = "the bytes were damaged on their way; try again, and look for a faulty proxy or network if it comes back"
_BROKEN_OFF = (RetriesExceededError, boto.FlexibleChecksumError, boto.IncompleteReadError, boto.ResponseStreamingError)


class _AlreadyThere(Exception):
    """A key that was to be created exists, or one that was to be replaced is another one by now."""


def make_client() -> S3Client:
    """A client with this environment's settings; safe to share among threads, not among processes."""
    settings: dict[str, Any] = {
        "retries": {
            "mode": os.environ.get("AWS_RETRY_MODE", "standard"),
            "total_max_attempts": _whole_number("AWS_MAX_ATTEMPTS", 8),
        },
        "s3": {"addressing_style": os.environ.get("VISIONR1_S3_ADDRESSING_STYLE", "auto")},
        "connect_timeout": 10,
        "read_timeout": 60,
        "max_pool_connections": 32,
    }
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        client: S3Client = boto3.session.Session(region_name=region).client("s3", config=Config(**settings))
    except ValueError as error:
        raise BadInput(f"S3 settings: {error}; correct AWS_ENDPOINT_URL_S3") from error
    except boto.BotoCoreError as error:
        raise BadInput(f"S3 settings: {error}; correct the AWS_* and VISIONR1_S3_* variables") from error
    return client


def explain_s3(error: Exception, address: str) -> Exception:
    """boto's error at `address` as an error of one line for people."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
    if isinstance(error, Boto3Error) and isinstance(error.__context__, (boto.ClientError, boto.BotoCoreError)):
        error = error.__context__  # boto3 wraps a failed upload and keeps only its text
    if isinstance(error, _BROKEN_OFF):
        return Damaged(f"{address}: {_ON_THE_WAY}")
    if isinstance(error, boto.ClientError):
        return _explain_answer(error, address, endpoint)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        return BadInput(f"{address}: no complete S3 credentials; {_SET_CREDENTIALS}")
    if isinstance(error, boto.ParamValidationError):
        return BadInput(f"{address}: {_line(error)}; correct the run's address")
    if isinstance(error, boto.SSLError):
        return StorageError(f"{address}: {endpoint} shows a certificate that is not trusted; set AWS_CA_BUNDLE to its CA file")
    if isinstance(error, (boto.ConnectionError, boto.HTTPClientError)):
        return StorageError(f"{address}: cannot reach {endpoint}; check AWS_ENDPOINT_URL_S3, the network and the proxy")
    return StorageError(f"{address}: {_line(error)}; check the S3 settings and try again")


def _explain_answer(error: boto.ClientError, address: str, endpoint: str) -> Exception:
    code = error.response["Error"].get("Code", "unknown")
    if code in ("NoSuchKey", "404"):
        return NotFound(address)
    if code in ("PreconditionFailed", "412"):
        return _AlreadyThere(address)
    if code in _BAD_SETTINGS:
        return BadInput(f"{address}: {_BAD_SETTINGS[code]}")
    if code == "BadDigest":
        return Damaged(f"{address}: {_ON_THE_WAY}")
    return StorageError(f"{address}: {_MAY_PASS.get(code) or f'{endpoint} answered {code}: {_line(error)}; try again later'}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _whole_number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise BadInput(f"{variable} is {text!r}: it must be a whole number, 1 or more")
    return int(text)


class S3Store:
    """A bucket, or a part of one; see `Store`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.client = make_client()

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def local_path(self, key: str) -> None:
        check_key(key)

    def read_bytes(self, key: str, most: int | None = None) -> bytes:
        with self._errors(key), closing(self.client.get_object(Bucket=self.bucket, Key=self._name(key))["Body"]) as body:
            data = body.read(most)
            if most is not None and len(data) < most:
                body.read()  # only at the end are the checksum and the number of bytes compared
            return data

    def write_bytes(self, key: str, data: bytes) -> None:
        with self._errors(key):
            self.client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)

    def create_bytes(self, key: str, data: bytes) -> bool:
        try:
            with self._errors(key):
                self._put_if(key, data, {"IfNoneMatch": "*"})
        except _AlreadyThere:
            # boto3 may have asked twice, when the first answer was lost: then what is there is what it wrote.
            return self.read_bytes(key) == data
        return True

    def replace_bytes(self, key: str, data: bytes, before: bytes | None) -> bool:
        if before is None:
            return self.create_bytes(key, data)
        try:
            with self._errors(key):
                found = self.client.get_object(Bucket=self.bucket, Key=self._name(key))
                with closing(found["Body"]) as body:
                    if body.read() != before:
                        return False
                self._put_if(key, data, {"IfMatch": found["ETag"]})
        except NotFound:
            return False
        except _AlreadyThere:
            return self.read_bytes(key) == data  # as in create_bytes
        return True

    def _put_if(self, key: str, data: bytes, condition: dict[str, Any]) -> None:
        """S3 answers 409 while another such request for the same key is under way, and boto3 does not repeat that."""
        for wait in (*_CONFLICT_SECONDS, None):
            try:
                self.client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data, **condition)
                return
            except boto.ClientError as error:
                if wait is None or error.response["Error"].get("Code") not in ("ConditionalRequestConflict", "409"):
                    raise
                time.sleep(wait)

    def exists(self, key: str) -> bool:
        return self.version(key) is not None

    def version(self, key: str) -> str | None:
        # A listing, since a HEAD request answers 404 for a wrong bucket as well, and 403 for a missing key without ListBucket.
        name = self._name(key)
        with self._errors(key):
            found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=name, MaxKeys=1)
        return next((_version(item) for item in found.get("Contents", ()) if item["Key"] == name), None)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        for key, item in self._found(prefix):
            found[key] = item["Size"]
            if len(found) > MOST_FILES:
                raise too_many_files(self.url, MOST_FILES)
        return found

    def versions(self) -> dict[str, str]:
        return {key: _version(item) for key, item in self._found("")}

    def _found(self, prefix: str) -> Iterator[tuple[str, Any]]:
        start = len(self.prefix) + 1 if self.prefix else 0
        with self._errors(prefix):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._folder(prefix)):
                yield from ((item["Key"][start:], item) for item in page.get("Contents", ()))

    def list(self, prefix: str = "") -> list[str]:
        return sorted(self.sizes(prefix))

    def delete(self, prefix: str) -> None:
        """Removes this key, all keys below it, and the parts of uploads there that were broken off."""
        names = [self._name(key) for key in (prefix, *self.sizes(prefix))]
        with self._errors(prefix):
            for start in range(0, len(names), DELETED_AT_ONCE):
                batch: list[Any] = [{"Key": name} for name in names[start : start + DELETED_AT_ONCE]]
                answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
                for failed in answer.get("Errors", ()):
                    raise boto.ClientError({"Error": {"Code": failed["Code"], "Message": failed["Message"]}}, "DeleteObjects")
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self._folder(prefix))
            for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    def put_file(self, local: Path, key: str, moved: Moved = lambda _: None) -> None:
        with self._errors(key), os_errors(local):
            self.client.upload_file(str(local), self.bucket, self._name(key), Callback=moved, Config=TRANSFER)

    def get_file(self, key: str, local: Path, moved: Moved = lambda _: None) -> None:
        with self._errors(key), os_errors(local), replacing(local) as temporary:
            self.client.download_file(self.bucket, self._name(key), str(temporary), Callback=moved, Config=TRANSFER)

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)

    def _folder(self, prefix: str) -> str:
        whole = self._name(prefix) if prefix else self.prefix
        return f"{whole}/" if whole else ""

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (boto.BotoCoreError, boto.ClientError, Boto3Error) as error:
            raise explain_s3(error, f"{self.url}/{key}".rstrip("/")) from error


def _version(item: Any) -> str:
    """Of an entry in a listing."""
    return f"{item['Size']}:{item['ETag']}"
