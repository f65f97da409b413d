"""The WebSocket connections of a server, by what is below them."""
