"""The command `frame-capture`, also as `python -m worker`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; Ctrl-C ends it without a traceback from its very first moment."""
    try:
        from worker.cli import app  # noqa: PLC0415 - importing takes long enough for Ctrl-C

        app.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
