"""The rendered street: a drive with the exact label of every pixel."""
