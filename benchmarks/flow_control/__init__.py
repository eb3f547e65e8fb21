"""What `benchmarks/flow.py` runs: its cells, and one module for each contender, run as a process of its own."""
