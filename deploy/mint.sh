#!/bin/sh
# Nutshell reads the key of all its keysets from a variable only: take it from the secret's file, then start.
set -eu
MINT_PRIVATE_KEY="$(cat "$MINT_PRIVATE_KEY_FILE")"
export MINT_PRIVATE_KEY
exec python -m cashu.mint
