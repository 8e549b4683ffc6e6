"""The wallet page: what the wallet is and does, for a browser of this machine's user.

Nothing of it is imported before somebody looks at it but ``door`` and ``sessions``.
"""
