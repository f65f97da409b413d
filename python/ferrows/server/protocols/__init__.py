"""The asyncio protocols of a server's connections."""
