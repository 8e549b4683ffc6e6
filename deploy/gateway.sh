#!/bin/sh
# LiteLLM reads its master key from a variable only: take it from the secret's file, then start.
set -eu
LITELLM_MASTER_KEY="$(cat "$LITELLM_MASTER_KEY_FILE")"
export LITELLM_MASTER_KEY
exec litellm "$@"
