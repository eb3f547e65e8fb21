"""Worlds to try things in: virtual time, and the simulated provider as a real HTTP server."""
