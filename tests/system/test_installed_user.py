# SPDX-License-Identifier: MIT
"""Programs of the integration suite against the service as installed, as test_installed_root.py has them, but
as an ordinary user in group kmm: what a program on such a machine is. The user is in [access] admins, since
the tests drop caches and run fsck between two steps."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
from installed import Installed, run_all  # noqa: E402

TESTS = ["tests/integration/" + name for name in (
    "test_api_caches", "test_api_highmem", "test_api_object_sharing", "test_api_objects",
    "test_api_percpu", "test_api_session", "test_api_sharing", "test_api_stack", "test_api_vmalloc",
    "test_kmmctl_map.py", "test_pipeline.sh", "test_restart", "test_restart_objects",
    "test_wordcount.sh")] + ["tests/kernel/kernel_c"]


def main():
    with Installed() as machine:
        passed, failed = run_all(machine, TESTS, user="tester", groups=["kmm"])
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or passed == 0


if __name__ == "__main__":
    sys.exit(main())
