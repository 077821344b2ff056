"""The physics: frames of media files, chosen and rendered. Synchronous and deterministic; runs in a decoder process.

Knows no asyncio, AMQP, S3, logging or metrics. The one way in is `capture.capture`.
"""
