"""Send once a second and answer at any time: two tasks on one connection.

Written for Sanic; only the import lines differ.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

import asyncio
import json as json_lib
import os
import random
from datetime import datetime

from ferrows import App as Sanic

app = Sanic("DataStreamApp")


@app.websocket("/ws/data-stream")
async def data_stream(request, ws):
    """Stream real-time data to WebSocket clients."""

    # Send initial connection confirmation
    await ws.send(
        json_lib.dumps(
            {
                "type": "connected",
                "message": "Data stream connected",
                "timestamp": datetime.utcnow().isoformat(),
            }
        )
    )

    # Create background task for data streaming
    stream_task = asyncio.create_task(stream_data(ws))
    receive_task = asyncio.create_task(handle_client_messages(ws))

    try:
        # Wait for either task to complete
        done, pending = await asyncio.wait([stream_task, receive_task], return_when=asyncio.FIRST_COMPLETED)  # noqa: RUF059

        # Cancel pending tasks
        for task in pending:
            task.cancel()

    except Exception as e:
        print(f"WebSocket streaming error: {e}")

    finally:
        if not ws.closed:
            await ws.close()


async def stream_data(ws):
    """Stream data to WebSocket client."""
    while not ws.closed:
        try:
            # Generate sample data
            data = {
                "type": "data",
                "timestamp": datetime.utcnow().isoformat(),
                "value": random.randint(1, 100),
                "sensor_id": "sensor_001",
                "temperature": round(random.uniform(20.0, 30.0), 2),
                "humidity": round(random.uniform(40.0, 80.0), 2),
            }

            await ws.send(json_lib.dumps(data))
            await asyncio.sleep(1)  # Send data every second

        except Exception as e:
            print(f"Data streaming error: {e}")
            break


async def handle_client_messages(ws):
    """Handle messages from WebSocket client."""
    async for message in ws:
        try:
            data = json_lib.loads(message)

            if data.get("type") == "ping":
                await ws.send(json_lib.dumps({"type": "pong", "timestamp": datetime.utcnow().isoformat()}))

            elif data.get("type") == "subscribe":
                # Handle subscription requests
                sensor_id = data.get("sensor_id")
                await ws.send(
                    json_lib.dumps(
                        {"type": "subscribed", "sensor_id": sensor_id, "message": f"Subscribed to {sensor_id}"}
                    )
                )

        except json_lib.JSONDecodeError:
            await ws.send(json_lib.dumps({"type": "error", "message": "Invalid message format"}))


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8000")))
