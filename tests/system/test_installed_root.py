# SPDX-License-Identifier: MIT
"""The integration suite against the service as installed (unit, hardening, user, group, configuration file),
inside the booted system: every program that starts a daemon of its own finds the service behind it. Here as
root: what takes root, and some of what else test_installed_user.py runs as an ordinary user. EXCEPT names
those to which it means nothing."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
# pylint: disable=wrong-import-position
from installed import Installed, integration_tests, of_a_user, run_all  # noqa: E402

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
    "tests/kernel/kernel_cxx": "kernel_c, compiled as C++",
    "tests/stress/kill_pipeline": "deaths are in test_service_kills.py, pipelines in test_pipeline.sh",
    "tests/stress/kill_daemon": "test_service_kills.py has it",
    "tests/stress/kill_objects": "test_service_kills.py has it",
}
BOTH = ["tests/integration/" + name for name in (
    "test_api_objects", "test_api_pages", "test_api_session", "test_restart")]


def main():
    with Installed() as machine:
        passed, failed = run_all(machine, [t for t in integration_tests()
                                           if t not in EXCEPT and (t in BOTH or not of_a_user(t))])
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or passed == 0


if __name__ == "__main__":
    sys.exit(main())
