"""Decisions about when to call: pure. Time and chance are arguments."""
