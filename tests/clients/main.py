"""Runs the client tests against a running demo and closes with a count.

    python tests/clients/main.py demo.json      (as `pgveil demo --json` printed it)
"""

import json
import pathlib
import sys
import unittest

import demo


def main() -> int:
    demo.SHOWN.update(json.loads(pathlib.Path(sys.argv[1]).read_text()))
    here = pathlib.Path(__file__).parent
    tests = unittest.defaultTestLoader.discover(str(here), pattern="test_*.py")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(tests)
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    sys.stdout.flush()
    print(f"{result.testsRun - failed - skipped} passed, {failed} failed"
          + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or result.testsRun == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
