"""What the tables share with the end-to-end tests: the broker, the sources, and workers."""

from tests.e2e.conftest import broker, sources, start

__all__ = ["broker", "sources", "start"]
