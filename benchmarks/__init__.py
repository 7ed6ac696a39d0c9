"""Commands that print the figures, each with the machine named."""
