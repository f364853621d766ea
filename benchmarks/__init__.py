"""Speed and memory, each as the ratio of two ways measured in one run: `python -m benchmarks`."""
