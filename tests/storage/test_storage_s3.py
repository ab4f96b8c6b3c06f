"""S3 against a real server: settings, large files, and one clear line for each kind of trouble."""

import os
import re
import socket
from pathlib import Path

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from visionr1.errors import BadInput
from visionr1.rundir.checkpoints import Checkpoints
from visionr1.rundir.steplog import StepLog, read_steps
from visionr1.storage import NotFound, StorageError, open_store, s3

MIB = 1 << 20


def bucket_of(url: str) -> str:
    return url.split("/")[2]


def test_two_runs_in_one_bucket_do_not_see_each_other(s3_url: str) -> None:
    one, other, whole = open_store(s3_url), open_store(s3_url + "-b/"), open_store(f"s3://{bucket_of(s3_url)}")
    one.write_bytes("recipe.yaml", b"one")
    other.write_bytes("recipe.yaml", b"other")
    assert other.url == s3_url + "-b"
    assert (one.list(), other.list()) == (["recipe.yaml"], ["recipe.yaml"])
    assert whole.list() == ["runs/demo-b/recipe.yaml", "runs/demo/recipe.yaml"]
    one.delete("recipe.yaml")
    assert other.read_bytes("recipe.yaml") == b"other"


def test_large_files_go_in_parts(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "TRANSFER", TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB))
    (tmp_path / "model.safetensors").write_bytes(os.urandom(12 * MIB))
    store = open_store(s3_url)
    store.put_file(tmp_path / "model.safetensors", "model.safetensors")
    head = boto3.client("s3").head_object(Bucket=bucket_of(s3_url), Key="runs/demo/model.safetensors")
    assert head["ETag"].endswith('-3"')
    store.get_file("model.safetensors", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_clearing_ends_uploads_that_were_broken_off(s3_url: str) -> None:
    client, bucket = boto3.client("s3"), bucket_of(s3_url)
    for step in (5, 50):
        client.create_multipart_upload(Bucket=bucket, Key=f"runs/demo/checkpoints/sft/step-{step}/model.safetensors")
    Checkpoints(open_store(s3_url), "sft").clear(5)
    left = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in left] == ["runs/demo/checkpoints/sft/step-50/model.safetensors"]


def test_more_keys_are_deleted_than_one_request_takes(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "DELETED_AT_ONCE", 10)
    store = open_store(s3_url)
    for number in range(25):
        store.write_bytes(f"rollouts/{number}", b"")
    store.write_bytes("recipe.yaml", b"")
    store.delete("rollouts")
    assert store.list() == ["recipe.yaml"]


def test_the_step_log_works_on_objects(s3_url: str) -> None:
    store = open_store(s3_url)
    log = StepLog(store, "sft", 0)
    for step in (1, 2, 3):
        log.append({"phase": "sft", "stage": None, "step": step, "loss": 1 / step})
        assert [record["step"] for record in read_steps(open_store(s3_url))] == list(range(1, step + 1))
    StepLog(store, "sft", 1).append({"phase": "sft", "stage": None, "step": 2, "loss": 0.25})
    assert [(record["step"], record["loss"]) for record in read_steps(store)] == [(1, 1.0), (2, 0.25)]


def test_a_wrong_bucket_is_bad_input(s3_environment: None) -> None:
    store = open_store("s3://no-such-bucket-anywhere/run")
    for call in (store.read_bytes, store.exists, store.list, store.delete, lambda key: store.write_bytes(key, b"")):
        with pytest.raises(BadInput, match=r"^s3://no-such-bucket-anywhere/run/a: there is no such bucket; create it or correct"):
            call("a")


def test_a_wrong_bucket_is_bad_input_for_files_too(s3_environment: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BadInput, match="there is no such bucket"):
        open_store("s3://no-such-bucket-anywhere/run").put_file(tmp_path / "file", "a")


def test_an_impossible_bucket_name_is_bad_input(s3_environment: None) -> None:
    with pytest.raises(BadInput, match="correct the run's address"):
        open_store("s3://UP/run").list()


def test_no_credentials_are_bad_input(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadInput, match="no complete S3 credentials; set AWS_ACCESS_KEY_ID"):
        open_store(s3_url).list()


def test_an_unreachable_endpoint_is_a_storage_error_that_names_it(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(StorageError, match=f"cannot reach {re.escape(endpoint)}; check AWS_ENDPOINT_URL_S3"):
        open_store(s3_url).exists("recipe.yaml")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_ENDPOINT_URL_S3", "nonsense"),
        ("AWS_MAX_ATTEMPTS", "many"),
        ("AWS_RETRY_MODE", "stubborn"),
        ("AWS_PROFILE", "nobody"),
        ("VISIONR1_S3_ADDRESSING_STYLE", "nonsense"),
    ],
)
def test_a_wrong_setting_is_bad_input(s3_environment: None, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadInput, match=value):
        open_store("s3://bucket/run")


@pytest.mark.parametrize(
    ("style", "address"),
    [("path", "http://s3.example.org/bucket/run/a"), ("virtual", "http://bucket.s3.example.org/run/a")],
)
def test_the_addressing_style_is_the_environments(
    s3_environment: None, monkeypatch: pytest.MonkeyPatch, style: str, address: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.org")
    monkeypatch.setenv("VISIONR1_S3_ADDRESSING_STYLE", style)
    store = open_store("s3://bucket/run")
    assert isinstance(store, s3.S3Store)
    signed = store.client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "run/a"})
    assert signed.partition("?")[0] == address


def test_a_lost_permission_while_deleting_is_told(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3_url)
    assert isinstance(store, s3.S3Store)
    refusal = {"Errors": [{"Key": "a", "Code": "AccessDenied", "Message": "Access Denied"}]}
    monkeypatch.setattr(store.client, "delete_objects", lambda **_: refusal)
    with pytest.raises(StorageError, match="the credentials lack a permission; allow List, Get, Put, Delete"):
        store.delete("a")


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        ("NoSuchKey", NotFound, "not found"),
        ("InvalidAccessKeyId", BadInput, "set AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", BadInput, "set AWS_ACCESS_KEY_ID"),
        ("PermanentRedirect", BadInput, "set AWS_REGION"),
        ("AccessDenied", StorageError, "allow List"),
        ("ExpiredToken", StorageError, "renew them"),
        ("SlowDown", StorageError, "answered SlowDown"),
    ],
)
def test_each_answer_of_the_server_says_what_to_do(code: str, kind: type[Exception], advice: str) -> None:
    refused = ClientError({"Error": {"Code": code, "Message": "Something\nof two lines"}}, "GetObject")
    error = s3.explain_s3(refused, "s3://bucket/run/a")
    assert type(error) is kind
    assert str(error).startswith("s3://bucket/run/a: ") and advice in str(error) and "\n" not in str(error)
