#!/bin/sh
# In an image's build stage: the packages of a lock file, with their hashes, into /opt/venv.
# Usage: install-locked.sh LOCK    uv.txt, the lock of uv itself, lies beside this script.
set -eu
apt-get update -qq
apt-get install -y -qq --no-install-recommends python3-venv
python3 -m venv /uv
/uv/bin/pip install --quiet --no-cache-dir ${SSL_CERT_FILE:+--cert "$SSL_CERT_FILE"} --require-hashes -r "$(dirname "$0")/uv.txt"
python3 -m venv --without-pip /opt/venv
UV_LINK_MODE=copy UV_NO_CACHE=1 /uv/bin/uv pip sync --quiet --python /opt/venv/bin/python --require-hashes --compile-bytecode "$1"
