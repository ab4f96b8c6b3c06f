#!/usr/bin/env bash
# Builds packages from the last commit, in a folder of their own: nothing that is not committed can be in them.
# Usage: package.sh DIST wheel           the Python package
#        package.sh DIST all             with sdist, chart, bill of materials, provenance and checksums
# Environment: HELM, HELM_KEY, HELM_KEYRING (sign the chart), SIGN_KEY (an OpenSSH key that signs the checksums).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dist=$(cd "$1" && pwd)
python=$root/.venv/bin/python
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
if [ ! -e "$root/.git" ]; then # an sdist has no commits, and is one itself
    cd "$root"
    rm -f "$dist"/*.whl
    exec "$python" -m hatchling build --target wheel --directory "$dist"
fi
commit=$(git -C "$root" rev-parse HEAD)
[ -z "$(git -C "$root" status --porcelain)" ] || echo "note: built from commit ${commit:0:7}; what is not committed is not in it" >&2
git -C "$root" archive "$commit" | tar --extract --directory "$source"
echo "${commit:0:7}" >"$source/visionr1/commit.txt"
rm -f "$dist"/*.whl
if [ "$2" = wheel ]; then
    cd "$source"
    "$python" -m hatchling build --target wheel --directory "$dist"
    exit
fi
rm -f "$dist"/*.{tar.gz,tgz,tgz.prov} "$dist"/SHA256SUMS{,.sig}
cd "$source"
"$python" -m hatchling build --target wheel --target sdist --directory "$dist"
sign=()
[ -z "${HELM_KEY:-}" ] || sign=(--sign --key "$HELM_KEY" ${HELM_KEYRING:+--keyring "$HELM_KEYRING"})
"$HELM" package charts/visionr1-ptst --destination "$dist" "${sign[@]}"
"$python" images/provenance.py "$dist" "$commit"
[ -z "${SIGN_KEY:-}" ] || ssh-keygen -q -Y sign -f "$SIGN_KEY" -n visionr1-ptst "$dist/SHA256SUMS"
