"""The command line: parses, calls `worker.service` or `worker.lone`, prints. Decides nothing about tasks."""
