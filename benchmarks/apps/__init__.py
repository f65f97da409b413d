"""One server a file, each run as ``python -m benchmarks.apps.<name> --port PORT``."""
