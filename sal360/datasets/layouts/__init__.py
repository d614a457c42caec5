"""The real data sets, read as they were published, one file for each."""
