#!/bin/sh
# Gets PostgreSQL's programs for the tests where they are missing: by apt-get, as root or with a sudo that asks nothing.
# It never fails, since not every test needs them; those that do say what to install.
set -eu

there() {
    for directory in $(echo "$PATH" | tr ':' ' ') "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin; do
        if [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ]; then return 0; fi
    done
    return 1
}

say() {
    echo "set-up: $1" >&2
}

give_up() {
    say "PostgreSQL's programs are missing and $1: the tests that need them will fail (Debian, Ubuntu: apt-get install postgresql)."
    exit 0
}

install() {
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >&2
}

there && exit 0
command -v apt-get >/dev/null 2>&1 || give_up "there is no apt-get"
root=
if [ "$(id -u)" -ne 0 ]; then
    root='sudo -n'
    $root true 2>/dev/null || give_up "this user may not install packages"
fi

say "installing PostgreSQL for the tests"
install postgresql-common || { $root apt-get update -q >&2 && install postgresql-common; } || give_up "apt-get could not install them"
# The package would start a server of its own on the usual port; the tests start theirs. The setting is put back afterwards.
settings=/etc/postgresql-common/createcluster.conf
kept=$(mktemp)
cat "$settings" >"$kept"
trap '$root cp "$kept" "$settings"; rm -f "$kept"' EXIT
echo 'create_main_cluster = false' | $root tee -a "$settings" >/dev/null
install postgresql || give_up "apt-get could not install them"
