"""The command `frame-capture`, also as `python -m worker`."""

from worker.cli.app import main

if __name__ == "__main__":
    main()
