#!/usr/bin/env bash
# The inner half of run.sh, as process 1 of namespaces of its own: moves into the Debian system, then runs the commands there.
# Usage: inside.sh FOLDER COMMAND...
set -euo pipefail
folder=$1 root=$1/root
shift
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"

mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0 1 2; do ln -s /proc/self/fd/$number "dev/$(set -- stdin stdout stderr && shift $number && echo "$1")"; done

hostname bare
printf '%s\n' '127.0.0.1 localhost' '::1 localhost ip6-localhost' '127.0.1.1 bare' >etc/hosts
cp /etc/resolv.conf etc/resolv.conf
echo 'visitor:x:1000:1000::/home/visitor:/bin/bash' >>etc/passwd
echo 'visitor:x:1000:' >>etc/group

# How this machine reaches its package index, and nothing else of it.
environment=(PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/visitor USER=visitor PYTHONUNBUFFERED=1 UV_LINK_MODE=copy)
while IFS= read -r -d '' variable; do
    environment+=("$variable")
done < <(env --null | grep --null-data -iE '^(PIP_|UV_|SSL_CERT_|REQUESTS_CA_BUNDLE=|(https?|no|all)_proxy=)' |
    grep --null-data -vE '^(UV_CACHE_DIR|UV_LINK_MODE|PIP_CACHE_DIR)=')
[ -z "${COVERAGE:-}" ] || environment+=("COVERAGE=$COVERAGE") # what make test is asked for
carried=(/etc/pip.conf /etc/xdg/pip/pip.conf /etc/uv/uv.toml /etc/ssl/certs/ca-certificates.crt)
carried+=("${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}" "${PIP_CONFIG_FILE:-}" "${UV_CONFIG_FILE:-}")
for file in "${carried[@]}"; do
    [ ! -f "$file" ] || install -D --mode 644 "$file" ".$file"
done
for file in .pip/pip.conf .config/pip/pip.conf .config/uv/uv.toml; do
    [ ! -f "$HOME/$file" ] || install -D --mode 644 "$HOME/$file" "home/visitor/$file"
done
for wheels in ${PIP_FIND_LINKS:-} ${UV_FIND_LINKS:-}; do
    [ -d "$wheels" ] || continue
    mkdir -p ".$wheels"
    mount --bind -o ro "$wheels" ".$wheels"
done

# Packages that this machine has fetched before. The user may add to its view of them; they themselves stay as they are.
packages=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/uv}
mkdir -p home/visitor/.cache/uv
chown -R 1000:1000 home/visitor
if [ -d "$packages" ]; then
    mkdir "$folder/packages" "$folder/work"
    mount -t overlay -o "lowerdir=$packages,upperdir=$folder/packages,workdir=$folder/work" overlay home/visitor/.cache/uv
    # All but the packages' own files: a file that gets another owner is copied.
    find home/visitor/.cache/uv ! \( -path '*/archive-v0/*' -type f \) -exec chown --no-dereference 1000:1000 {} +
fi

# Real problems and published outputs beside the checkout, which some tests read where they are there.
real=$(cd "$(dirname "$0")/../../.." && pwd)/shared/data
for part in geometry3k-sample gold; do
    if [ -d "$real/$part" ]; then
        mkdir -p "home/visitor/shared/data/$part"
        mount --bind -o ro "$real/$part" "home/visitor/shared/data/$part"
    fi
done

mkdir .machine
pivot_root . .machine
cd /
umount --lazy .machine
rmdir .machine

cd /home/visitor/visionr1-ptst
code=0
for command in "$@"; do
    echo "--- on a bare machine: $command"
    # Neither a locale nor the time zone of whoever wrote the tests.
    env --ignore-environment "${environment[@]}" TZ='<+0545>-5:45' \
        setpriv --reuid 1000 --regid 1000 --clear-groups bash -c "$command" || code=$?
done
exit "$code"
