"""HTML reports: one page for each drive and an index over all, without anything from elsewhere."""
