"""A Cashu wallet on anyio: mint client, store, operation journal."""
