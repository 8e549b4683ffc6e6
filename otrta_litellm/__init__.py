"""The gateway: a LiteLLM plugin that sells LLM calls for e-cash."""
