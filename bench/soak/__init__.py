"""Mixed paid calls for a long time, gateway and mint killed now and then, and every msat counted."""
