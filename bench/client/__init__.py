"""What the client proxy adds to a call."""
