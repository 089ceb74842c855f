"""The benchmarks: the paper's five tasks through lmms-eval."""
