"""Programs for those who work on the package; nothing here is installed."""
