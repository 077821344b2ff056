"""The frame-capture worker: tasks from RabbitMQ in, frames of videos in object storage out."""

__version__ = "0.1.0"
