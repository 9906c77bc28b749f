"""The report, the data card and the sample of a finished collection."""
