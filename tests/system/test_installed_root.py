# SPDX-License-Identifier: MIT
"""The integration suite against the service as installed (unit, hardening, user, group, configuration file),
inside the booted system, as root. Every program that starts a daemon of its own finds the service behind it;
EXCEPT names those to which that means nothing."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
from installed import Installed, integration_tests, run_all  # noqa: E402

STARTS_NONE = "about the program's command line; it starts no service"
ITS_OWN_STORE = "plays the service manager itself, with a pool that it has damaged or made old"
SUPERVISOR = "about kmmd --supervise, or the lines on standard error, which the journal has otherwise"
EXCEPT = {
    "tests/integration/test_config.sh": STARTS_NONE,
    "tests/integration/test_corrupt.py": ITS_OWN_STORE,
    "tests/integration/test_upgrade.py": ITS_OWN_STORE,
    "tests/integration/test_events.py": SUPERVISOR,
    "tests/integration/test_stop": SUPERVISOR,
    "tests/integration/test_metrics.py": "test_metrics_service.py has it: the unit has no network and no "
                                         "directory of a test",
    "tests/integration/test_metrics_prometheus.py": "as test_metrics.py",
    "tests/integration/test_settings.py": "about command line and files that it names itself",
    "tests/stress/kill_daemon": "test_service_kills.py has it",
    "tests/stress/kill_objects": "test_service_kills.py has it",
}


def main():
    with Installed() as machine:
        passed, failed = run_all(machine, [t for t in integration_tests() if t not in EXCEPT])
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or passed == 0


if __name__ == "__main__":
    sys.exit(main())
