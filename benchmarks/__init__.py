"""Studies: each module answers one question, and stores its numbers in benchmarks/results."""
