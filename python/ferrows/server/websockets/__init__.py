"""WebSocket connections of the server package."""
