"""Everything that answers a request: HTTP dialects, the local model, the simulated provider, a user's function."""
