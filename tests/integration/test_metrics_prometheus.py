# SPDX-License-Identifier: MIT
"""Prometheus itself: it scrapes a live daemon and its API tells what the daemon told; the alert rules
are loaded, evaluated on live values, and pass promtool with their tests; the dashboard asks for what
there is, by expressions that Prometheus understands.
"""
import json
import os
import re
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from kmmtest import OK, PATIENCE, die_with_parent, field, main, wait_until
from metrics_case import Case, Metrics, free_port, get
from peer_run import GFP_HIGHMEM
from settings_case import GFP_KERNEL, GFP_NOWAIT

SOURCE = os.environ.get("KMM_SRCDIR", ".")
MONITORING = os.path.abspath(os.path.join(SOURCE, "contrib", "monitoring"))
RULES = os.path.join(MONITORING, "kmmd.rules.yml")
# Of Prometheus, and recorded by the rules.
NOT_OURS = {"up"}


def promtool(*args, data=None):
    return subprocess.run(["promtool", *args], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def names_in(expression):
    """The metrics that an expression names: words outside of labels, strings, ranges and "by (...)" that
    are no function."""
    text = re.sub(r'"(\\.|[^"\\])*"', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()\b", text)
    return {w for w in words if w not in ("and", "or", "unless", "bool", "offset", "by")
            and not re.search(r"\b%s\s*\(" % re.escape(w), text)}


def dashboard_expressions():
    with open(os.path.join(MONITORING, "kmmd-dashboard.json"), encoding="utf-8") as f:
        dashboard = json.load(f)
    found = [a["expr"] for a in dashboard["annotations"]["list"]]
    for panel in dashboard["panels"]:
        found += [t["expr"] for t in panel.get("targets", [])]
    assert len(found) > 50
    for v in dashboard["templating"]["list"]:
        if v["type"] == "query":
            found.append(re.fullmatch(r"label_values\((\w+), \w+\)", v["query"]["query"]).group(1))
    return [e.replace("$__rate_interval", "1m").replace("$instance", ".*") for e in found]


def rule_expressions():
    """Of the file, by the indentation that it has; Prometheus reads it properly below."""
    with open(RULES, encoding="utf-8") as f:
        text = f.read()
    blocks = re.findall(r"(?m)^ {8}expr: (?:\|\n((?: {10}.*\n)+)|(.*)$)", text)
    found = [a or b for a, b in blocks]
    assert len(found) == text.count("expr:")
    return found, set(re.findall(r"record: (\S+)", text))


class Prometheus:
    """with Prometheus(target) as p: p.value("kmmd_starts_total")"""

    def __init__(self, target):
        self.dir = tempfile.TemporaryDirectory(prefix="kmmd-prometheus-")
        self.port = free_port()
        config = os.path.join(self.dir.name, "prometheus.yml")
        with open(os.path.join(MONITORING, "prometheus.yml"), encoding="utf-8") as f:
            text = f.read()
        # The file that is installed, but faster.
        for was, to in (("- kmmd.rules.yml", f"- {RULES}"), ("127.0.0.1:9464", target),
                        ("scrape_interval: 15s", "scrape_interval: 250ms\n    scrape_timeout: 250ms")):
            assert was in text, was
            text = text.replace(was, to)
        with open(config, "w", encoding="utf-8") as f:
            f.write("global:\n  evaluation_interval: 250ms\n" + text)
        self.log = os.path.join(self.dir.name, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", "--config.file", config, "--storage.tsdb.path", self.dir.name + "/data",
                 "--web.listen-address", f"127.0.0.1:{self.port}"],
                stdout=log, stderr=log, preexec_fn=die_with_parent)

    def __enter__(self):
        wait_until(self.ready, "Prometheus is ready")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.dir.cleanup()

    def ready(self):
        if self.process.poll() is not None:
            with open(self.log, encoding="utf-8") as f:
                raise AssertionError(f.read())
        try:
            return self.ask("/-/ready", raw=True)
        except (urllib.error.URLError, ConnectionError):
            return False

    def ask(self, path, raw=False, **query):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as r:
            body = r.read()
        return body if raw else json.loads(body)["data"]

    def query(self, expression):
        return self.ask("/api/v1/query", query=expression)["result"]

    def value(self, expression):
        """Of the one series that it gives; None: there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def rules(self):
        return {r["name"]: r for g in self.ask("/api/v1/rules")["groups"] for r in g["rules"]}


class Scraped(Case):
    def start_tcp(self, *args):
        d = self.start("", *args)
        d.listen = f"127.0.0.1:{free_port()}"
        self.assertEqual(d.ctl("set", "metrics.listen", d.listen)[0], 0)
        return d

    def test_a_live_daemon(self):
        d = self.start_tcp()
        c = self.client(d)
        with Prometheus(d.listen) as p:
            wait_until(lambda: p.value('up{job="kmmd"}') == 1, "it is scraped")
            target, = p.ask("/api/v1/targets")["activeTargets"]
            self.assertEqual((target["health"], target["lastError"]), ("up", ""))
            calls = 'sum(kmmd_calls_total{method="kmm.v1.Allocator/AllocPages",status="OK"})'
            self.assertEqual(p.value(calls), 0)
            for _ in range(11):
                self.assertEqual(self.pages(c, 4).code, OK)
            wait_until(lambda: p.value(calls) == 11, "the calls are seen")
            # nothing else happens: what it has is what the daemon says
            wait_until(lambda: p.value("kmmd_pool_used_bytes") == 11 * 16 * 4096, "and the memory")
            now = Metrics(get(d.listen, accept="application/openmetrics-text").text)
            for name, series in now.samples.items():
                if name[0] in ("kmmd_zone_free_bytes", "kmmd_buddy_free_blocks", "kmmd_user_used",
                               "kmmd_sections", "kmmd_magazines_taken_total", "kmmd_build_info",
                               "kmmd_zone_watermark_bytes", "kmmd_starts_total"):
                    labels = ",".join(f'{k}="{v}"' for k, v in name[1])
                    self.assertEqual(p.value(f"{name[0]}{{{labels}}}"), series, name)
            # by OpenMetrics, since the other format has no units
            about = p.ask("/api/v1/metadata", metric="kmmd_call_duration_seconds")
            self.assertEqual([(a["type"], a["unit"]) for a in about["kmmd_call_duration_seconds"]],
                             [("histogram", "seconds")])
            p99 = p.value("histogram_quantile(0.99, sum by (le) (kmmd_call_duration_seconds_bucket))")
            self.assertGreater(p99, 0)
            self.check_rules(p)
            self.check_expressions(p)
            self.end(c)
            self.check_alerts(p, d)

    def check_rules(self, p):
        wait_until(lambda: all(r["health"] == "ok" for r in p.rules().values()), "all rules are evaluated")
        names = set(p.rules())
        with open(RULES, encoding="utf-8") as f:
            self.assertEqual(names, set(re.findall(r"(?:alert|record): (\S+)", f.read())))
        wait_until(lambda: (p.value("kmmd:pool_used:ratio") or 0) > 0, "ratios are recorded")

    def check_expressions(self, p):
        """Those of the dashboard are understood."""
        for e in dashboard_expressions():
            p.query(e)
        with self.assertRaises(urllib.error.HTTPError):
            p.query("sum by (")

    def check_alerts(self, p, d):
        """On live values, as far as their patience lets be seen at once: this daemon's memory is kept by
        nobody; nothing else is wrong. Then a request waits, then there is no daemon."""
        def state(name):
            return p.rules()[name]["state"]

        wait_until(lambda: state("KmmdMemoryNotKept") == "pending", "it is kept by nobody")
        self.assertEqual({n for n, r in p.rules().items() if r.get("state", "inactive") != "inactive"},
                         {"KmmdMemoryNotKept"})
        hoarder, waiter = self.client(d), self.client(d)
        for gfp in (GFP_NOWAIT | GFP_HIGHMEM, GFP_NOWAIT):
            for order in (10, 6, 3, 0):
                while self.pages(hoarder, order, gfp).code == OK:
                    pass
        waiter.ask("ALLOCATOR_ALLOC_PAGES", field(1, GFP_KERNEL))
        wait_until(lambda: state("KmmdPressure") == "pending", "a request waits")
        wait_until(lambda: state("KmmdPoolNearlyFull") == "pending", "the pool is full")
        self.end(hoarder)
        waiter.receive()
        wait_until(lambda: state("KmmdPressure") == "inactive", "it waits no more")
        self.end(waiter)
        self.assertEqual(d.ctl("set", "metrics.listen", "")[0], 0)
        wait_until(lambda: state("KmmdDown") == "pending", "nobody answers")


class Promtool(Case):
    def test_rules(self):
        done = promtool("check", "rules", RULES)
        self.assertEqual(done.returncode, 0, done.stdout)
        done = promtool("test", "rules", os.path.join(MONITORING, "kmmd.rules.test.yml"))
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("SUCCESS", done.stdout)
        done = promtool("check", "config", os.path.join(MONITORING, "prometheus.yml"))
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_every_alert_has_a_test(self):
        with open(RULES, encoding="utf-8") as f:
            names = re.findall(r"(?:alert|record): (\S+)", f.read())
        with open(os.path.join(MONITORING, "kmmd.rules.test.yml"), encoding="utf-8") as f:
            tests = f.read()
        for name in names:
            if "kmmd:" in name:
                continue
            fires = re.findall(r"alertname: %s\n +exp_alerts:\n +- exp_labels" % name, tests)
            silent = re.findall(r"alertname: %s\}" % name, tests)
            self.assertTrue(fires and silent, name)

    def test_metrics(self):
        """The lint of names, types and helps."""
        d = self.start()
        c = self.client(d)
        self.assertEqual(self.pages(c, 4).code, OK)
        done = promtool("check", "metrics", data=get(d.listen).text)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.end(c)

    def test_names(self):
        """Dashboard and rules ask for what a daemon has, whose memory a manager keeps."""
        d = self.start("", "--supervise")
        have = set()
        for f in self.metrics(d).families.values():
            endings = {"counter": ["_total"], "info": ["_info"],
                       "histogram": ["_bucket", "_count", "_sum"]}.get(f.type, [""])
            have |= {f.name + e for e in endings}
        expressions, recorded = rule_expressions()
        for e in dashboard_expressions() + expressions:
            names = names_in(e)
            self.assertTrue(names, e)
            self.assertEqual(names - have - recorded - NOT_OURS, set(), e)
        # and the check itself sees what is not there
        self.assertEqual(names_in('sum by (x) (rate(kmmd_a_total{b="c"}[5m])) / on (y) kmmd_d > 1 or up == 0'),
                         {"kmmd_a_total", "kmmd_d", "up"})


if __name__ == "__main__":
    main()
