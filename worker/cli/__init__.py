"""The command line: parses, calls `worker.service`, prints. Decides nothing about tasks."""
