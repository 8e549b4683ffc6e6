"""The client proxy: it runs on the user's machine and pays for LLM calls from the user's own wallet.

An app speaks plain OpenAI or Anthropic HTTP to it. The proxy forwards the call to a gateway with an
``X-Cashu`` payment, passes the answer on as it comes, and keeps the change. It serves loopback only.
"""
