"""Studies: each module answers one question, writes its numbers to benchmarks/results, and says how
long it took.
"""
