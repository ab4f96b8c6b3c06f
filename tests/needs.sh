#!/usr/bin/env bash
# Says in one line what a command lacks on this machine and how to install it, and ends with 1 then.
# Usage: needs.sh COMMAND NEED...    NEED: a program, PROGRAM=PACKAGE where Debian's package has another name, PROGRAM=ADDRESS
# where Debian has none, LIBRARY.so.N=PACKAGE, /FILE=PACKAGE, or root.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin # where the commands themselves look, too
command=$1 missing=() packages=()
shift
libraries=$(ldconfig -p || true) # whole: a reader that ends early ends ldconfig, too, which pipefail would take for a library that is missing
for need in "$@"; do
    case $need in
    root) [ "$(id -u)" = 0 ] || missing+=("to be run as root") ; continue ;;
    lib*.so.*) [[ $libraries != *"${need%%=*} "* ]] || continue ;;
    /*) [ ! -e "${need%%=*}" ] || continue ;;
    *) ! command -v "${need%%=*}" >/dev/null || continue ;;
    esac
    case $need in
    *://*) missing+=("${need%%=*} (${need#*=})") ;;
    *)
        missing+=("${need%%=*}")
        packages+=("${need#*=}")
        ;;
    esac
done
[ ${#missing[@]} -gt 0 ] || exit 0
line=$(printf ', %s' "${missing[@]}")
line="$command needs ${line#, }"
if [ ${#packages[@]} -gt 0 ]; then
    names=$(printf '%s\n' "${packages[@]}" | sort --unique | paste --serial --delimiters=' ')
    line+="; on Debian and Ubuntu: apt-get install $names"
fi
echo "$line" >&2
exit 1
