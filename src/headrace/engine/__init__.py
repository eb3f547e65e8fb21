"""The room that waits: it performs what the pure rooms decide."""
