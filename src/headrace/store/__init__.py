"""Durable memory: answers by digest, outcomes by run."""
