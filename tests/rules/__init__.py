"""The rules of the protocol on raw bytes, written from the RFCs and blind to the implementation."""
