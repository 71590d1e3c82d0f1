"""One script per question, run as `python -m benchmarks.NAME`; each prints a table and writes JSON on request."""
