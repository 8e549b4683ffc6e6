#!/bin/sh
# Makes the secrets of deploy/compose.yaml in a directory, once: those that are there stay as they are.
#   sh deploy/secrets.sh deploy/secrets
set -eu
umask 077
directory="${1:?name the directory, such as deploy/secrets}"
mkdir -p "$directory"

random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

make() {
    [ -s "$directory/$1" ] || printf '%s' "$2" >"$directory/$1"
}

make mint_private_key "$(random)"
make litellm_master_key "sk-$(random)"
make postgres_password "$(random)"
make otrta_store "postgresql://otrta:$(cat "$directory/postgres_password")@postgres:5432/otrta"
# Compose shows these files to the containers as they are, and their users are not yours.
chmod 0755 "$directory"
chmod 0444 "$directory"/*
