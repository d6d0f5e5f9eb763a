"""`python -m lqmf_runner`."""

import sys

from .install import missing_package

try:
    from .app.cli import main
except ModuleNotFoundError as error:  # a Python into which the program was not installed
    if (error.name or "").startswith(__package__):
        raise
    message, hint = missing_package(error)
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
