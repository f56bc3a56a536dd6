"""Runnable samples: the quickstart and the benchmarks behind every figure in README.md."""
