"""The peers' requirements, one file for each so that one that cannot be installed does not keep out the others."""
