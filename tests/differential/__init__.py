"""The extension and its twin, given the same random streams, must do the same."""
