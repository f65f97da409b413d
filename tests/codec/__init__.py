"""Tests of the sans-I/O codec, each on the extension and on the twin."""
