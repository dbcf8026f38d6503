"""Server of a board: one engine process per Edge TPU, front processes for the protocols, one data plane between."""
