#!/bin/sh
# In an image's build, on the locked packages: the project's wheel and the bill of materials into /out.
set -eu
cd "$(dirname "$0")"
/uv/uv pip install --quiet --python /opt/venv/bin/python --no-deps --compile-bytecode --target /out/opt/app ./*.whl
rm /out/opt/app/.lock
mkdir -p /out/usr/share/sbom
PYTHONPATH=/out/opt/app /opt/venv/bin/python sbom.py >/out/usr/share/sbom/sbom.json
