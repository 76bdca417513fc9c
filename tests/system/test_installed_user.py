# SPDX-License-Identifier: MIT
"""The integration suite against the service as installed, as test_installed_root.py has it, but as an ordinary
user in group kmm, which is what programs on such a machine are: all that does not take root. The user is in
[access] admins, since the tests drop caches and run fsck between two steps."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
from installed import Installed, integration_tests, of_a_user, run_all  # noqa: E402


def main():
    with Installed() as machine:
        passed, failed = run_all(machine, [t for t in integration_tests() if of_a_user(t)],
                                 user="tester", groups=["kmm"])
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or passed == 0


if __name__ == "__main__":
    sys.exit(main())
