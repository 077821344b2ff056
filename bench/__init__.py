"""What the worker costs, measured beside the `ffmpeg` command line: `python -m bench`."""
