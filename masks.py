"""`python CLONE/masks.py VERB ...` is `python -m tests.tools VERB ...`, from any folder.

With -m, a package `tests` in the current folder would hide the one of this repository.
"""

import sys

from tests.tools.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
