"""The client: a local proxy that pays for LLM calls from a wallet."""
