"""The passes, one per file, in the order in which lhcc.pipeline runs them."""
