"""A compiled network as plain C, printed from the kernels that the CPU target generates."""
