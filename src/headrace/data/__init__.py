"""What comes in as items, and what goes out as result files; knows nothing of runs and models."""
