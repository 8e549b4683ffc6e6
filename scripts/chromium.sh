#!/bin/sh
# Gets the browser that the wallet page's tests run in where it is missing: by apt-get, as root or with a sudo that asks
# nothing. It never fails, since not every test needs it; those that do say what to install.
set -eu

say() {
    echo "set-up: $1" >&2
}

give_up() {
    say "Chromium is missing and $1: the tests that need it will fail (Debian, Ubuntu: apt-get install chromium)."
    exit 0
}

install() {
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

for browser in chromium chromium-browser google-chrome; do
    if command -v "$browser" >/dev/null 2>&1; then exit 0; fi
done
command -v apt-get >/dev/null 2>&1 || give_up "there is no apt-get"
root=
if [ "$(id -u)" -ne 0 ]; then
    root='sudo -n'
    $root true 2>/dev/null || give_up "this user may not install packages"
fi

say "installing Chromium for the tests"
install chromium fonts-dejavu-core || { $root apt-get update -q >&2 && install chromium fonts-dejavu-core; } || give_up "apt-get could not install it"
