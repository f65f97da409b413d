"""The command line: ``ferrows module:app``, and the other commands."""
