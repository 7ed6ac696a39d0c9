"""Many recordings in one job: each gets outputs of its own, what is done is skipped."""
