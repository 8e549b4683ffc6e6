"""The gateway: a plugin that lets a LiteLLM proxy sell its calls for e-cash."""
