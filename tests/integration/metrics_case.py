# SPDX-License-Identifier: MIT
"""What the tests of metrics share: asking by HTTP, and a parser that forgives nothing.

prometheus_client's parser of OpenMetrics judges the text first; what is checked here besides is what it
lets pass, and what our names promise. The packaged module serves also where `python3` is not Debian's.
"""
import http.client
import re
import socket
import sys

try:
    from prometheus_client.openmetrics import parser
except ImportError:
    sys.path.append("/usr/lib/python3/dist-packages")
    from prometheus_client.openmetrics import parser

from kmmtest import PATIENCE
from settings_case import Case as SettingsCase

BOUNDS = [2 ** i / 1e6 for i in range(25)] + [float("inf")]
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
BY_PROMETHEUS = ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
                 "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


def connection(listen):
    if listen.startswith("/"):
        return UnixConnection(listen)
    host, port = listen.rsplit(":", 1)
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PATIENCE)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.type = self.headers.get("content-type")
        self.text = response.read().decode()


def get(listen, path="/metrics", method="GET", accept=None, body=None):
    c = connection(listen)
    try:
        c.request(method, path, body=body, headers={"Accept": accept} if accept else {})
        return Answer(c.getresponse())
    finally:
        c.close()


def free_port(family=socket.AF_INET):
    with socket.socket(family) as s:
        s.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        return s.getsockname()[1]


class Metrics:
    """One text: families by name, samples by name and labels. m["kmmd_pressure"],
    m["kmmd_calls_total", {"status": "OK"}]: the sum of those that have these labels."""

    def __init__(self, text):
        self.text = text
        self.families = {f.name: f for f in parser.text_string_to_metric_families(text)}
        self.samples = {}
        for f in self.families.values():
            self.check_family(f)
        self.check_lines()

    def check_family(self, f):
        assert re.fullmatch(r"(kmmd|process)_[a-z0-9_]+", f.name), f.name
        assert f.documentation.endswith(".") and '"' not in f.documentation, f.name
        for unit in ("bytes", "seconds"):
            assert (f.unit == unit) == f.name.endswith("_" + unit), f"{f.name}: unit {f.unit!r}"
        assert f.type in ("gauge", "counter", "info", "histogram"), f.name
        for s in f.samples:
            key = (s.name, tuple(sorted(s.labels.items())))
            assert key not in self.samples, f"twice: {key}"
            assert s.value >= 0, key
            self.samples[key] = s.value
        if f.type == "histogram":
            self.check_histogram(f)

    def check_histogram(self, f):
        series = {}
        for s in f.samples:
            labels = tuple(sorted((k, v) for k, v in s.labels.items() if k != "le"))
            one = series.setdefault(labels, {"buckets": []})
            if s.name.endswith("_bucket"):
                one["buckets"].append((float(s.labels["le"]), s.value))
            else:
                one[s.name[len(f.name):]] = s.value
        for labels, one in series.items():
            where = f"{f.name}{labels}"
            assert [b for b, _ in one["buckets"]] == BOUNDS, where
            counts = [n for _, n in one["buckets"]]
            assert counts == sorted(counts), where
            assert counts[-1] == one["_count"], where
            # the sum lies between what the bounds allow
            parts = [n - before for n, before in zip(counts, [0] + counts)]
            least = sum(n * low for n, low in zip(parts, [0] + BOUNDS[:-1]))
            assert one["_sum"] >= least * 0.999999, where
            if not parts[-1]:
                most = sum(n * high for n, high in zip(parts[:-1], BOUNDS[:-1]))
                assert one["_sum"] <= most * 1.000001, where

    def check_lines(self):
        lines = self.text.split("\n")
        assert lines[-2:] == ["# EOF", ""]
        assert all(line and not line.endswith(" ") and "  " not in line for line in lines[:-1]), "blanks"
        assert self.text.isprintable() or all(c.isprintable() or c == "\n" for c in self.text)

    def __getitem__(self, key):
        name, labels = key if isinstance(key, tuple) else (key, {})
        found = [v for (n, have), v in self.samples.items()
                 if n == name and all(dict(have).get(k) == str(w) for k, w in labels.items())]
        assert found, f"there is no {key}"
        return sum(found)

    def get(self, name, **labels):
        """The same, 0 when there is none."""
        try:
            return self[name, labels]
        except AssertionError:
            return 0

    def labelled(self, name, label):
        """{value of the label: value}"""
        return {dict(have)[label]: v for (n, have), v in self.samples.items() if n == name}

    def calls(self):
        """{(method without package, status): how many}, of those that there were."""
        return {(dict(have)["method"].replace("kmm.v1.", ""), dict(have)["status"]): int(v)
                for (n, have), v in self.samples.items() if n == "kmmd_calls_total" and v}


def moved(after, before):
    return {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}


class Case(SettingsCase):
    """A daemon that serves metrics on a Unix socket beside its own."""

    def start(self, text="", *args):
        d = super().start("[daemon]\nsocket_mode = 0666\n" + text, *args)
        d.listen = d.dir.name + "/metrics.sock"
        status, said = d.ctl("set", "metrics.listen", d.listen)
        self.assertEqual(status, 0, said)
        return d

    def metrics(self, d):
        """Asked by HTTP, which is no call of the protocol."""
        a = get(d.listen, accept="application/openmetrics-text")
        self.assertEqual((a.status, a.type), (200, OPENMETRICS))
        return Metrics(a.text)
