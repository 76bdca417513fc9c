# SPDX-License-Identifier: MIT
"""Who may connect, have sessions, inspect and administer: every method as every kind of user, the text
of every refusal, and what a reload does to connections that there are.
"""
from kmmtest import METHOD, NOT_FOUND, OK, PERMISSION_DENIED, field, frame, main, wait_until
from settings_case import ALICE, BASE, BOB, CAROL, DAVE, OTHERS, STAFF, Case

EPERM, EACCES = 1, 13
INSPECTOR = sorted(m for m in METHOD if m.startswith("INSPECTOR_"))
ADMIN = sorted(m for m in METHOD if m.startswith("ADMIN_"))
# Bodies with which nothing happens when they are let through.
HARMLESS = {"ADMIN_KILL_SESSION": field(1, 60000), "ADMIN_SET": field(1, "no.such") + field(2, "x"),
            "ADMIN_SHRINK": field(1, "no-such-cache"), "INSPECTOR_GET_SESSION": field(1, 60000),
            "INSPECTOR_EXPLAIN": field(1, 60000)}
# Which everybody may ask about the own session.
OWN = {"INSPECTOR_EXPLAIN": " about another session than one's own"}


def unwelcome(uid):
    return (f"user {uid} may not use this daemon: [access] users names neither the user nor a group of "
            "the process, and nor do inspectors and admins")


class Access(Case):
    def denied(self, reply, errno, text):
        self.assertEqual((reply.code, reply.errno, reply.text), (PERMISSION_DENIED, errno, text))

    def name(self, method):
        service, rest = method.split("_", 1)
        name = "".join(word.capitalize() for word in rest.split("_"))
        return f"kmm.v1.{service.capitalize()}/{name}"

    def may_not_connect(self, d, *who):
        """Whatever it asks first: that is refused, and the connection ends."""
        for method in ("ALLOCATOR_HELLO", "HEALTH_CHECK", "INSPECTOR_GET_POOL", "ADMIN_FSCK", 999):
            c = self.connect(d, *who)
            c.send(frame(method, field(1, 1), call=7) + frame("HEALTH_CHECK", call=8))
            answers = c.ends()
            self.assertEqual([a.call for a in answers], [7])
            self.denied(answers[0], EACCES, unwelcome(who[0]))

    def may(self, d, *who, session, inspect, admin):
        c = self.connect(d, *who)
        reply = c.hello()
        if session:
            self.assertEqual(reply.code, OK, reply.text)
            self.assertEqual(reply.fields.get(18, [0])[0], int(admin))
        else:
            self.denied(reply, EACCES, f"user {who[0]} may look on, not have memory: [access] users "
                        "names neither the user nor a group of the process")
            self.assertEqual(c.hello(f9=1).code, OK)  # as an observer
        self.calls(c, who[0], inspect, admin)
        if session:
            self.assertEqual(c.do("ALLOCATOR_CLOSE").code, OK)
        c.close()

    def calls(self, c, uid, inspect, admin):
        for method in INSPECTOR:
            reply = c.do(method, HARMLESS.get(method, b""))
            if inspect:
                self.assertNotEqual(reply.code, PERMISSION_DENIED, method)
            else:
                self.denied(reply, EPERM, f"{self.name(method)}{OWN.get(method, '')} is for inspectors: "
                            f"admins, and those of [access] inspectors; you are user {uid}")
        for method in ADMIN:
            reply = c.do(method, HARMLESS.get(method, b""))
            if admin:
                self.assertNotEqual(reply.code, PERMISSION_DENIED, method)
            else:
                self.denied(reply, EPERM, f"{self.name(method)} is for admins: root, the daemon's own "
                            f"user, and those of [access] admins; you are user {uid}")
        self.assertEqual(c.do("HEALTH_CHECK").code, OK)
        self.assertEqual(c.do("HEALTH_LIST_METHODS").code, OK)

    def test_nothing_configured(self):
        d = self.start()
        self.may(d, ALICE, session=True, inspect=True, admin=False)
        self.may(d, 0, session=True, inspect=True, admin=True)

    def test_lists(self):
        d = self.start(BASE + f"[access]\nusers = {ALICE}, @{STAFF}\ninspectors = {BOB}, {CAROL}\n"
                       f"admins = {DAVE}\n")
        self.may(d, ALICE, session=True, inspect=False, admin=False)
        self.may(d, BOB, session=False, inspect=True, admin=False)
        self.may(d, CAROL, STAFF, session=True, inspect=True, admin=False)
        self.may(d, DAVE, session=True, inspect=True, admin=True)
        self.may(d, 0, session=True, inspect=True, admin=True)
        self.may_not_connect(d, 65001)
        wait_until(lambda: f"user 65001: kmm.v1.Allocator/Hello was refused (EACCES): {unwelcome(65001)}"
                   in d.said(), "the log says so")

    def test_users_alone(self):
        d = self.start(BASE + f"[access]\nusers = {ALICE}\n")
        self.may(d, ALICE, session=True, inspect=True, admin=False)
        self.may_not_connect(d, BOB)

    def test_groups(self):
        d = self.start(BASE + f"[access]\nusers = @{STAFF}\nadmins = @{OTHERS}\n")
        self.may(d, ALICE, STAFF, session=True, inspect=True, admin=False)
        self.may(d, ALICE, 65534, [1, STAFF], session=True, inspect=True, admin=False)
        # as the last of many
        many = list(range(64000, 64300))
        self.may(d, ALICE, 65534, many + [STAFF], session=True, inspect=True, admin=False)
        self.may(d, ALICE, 65534, [OTHERS] + many, session=True, inspect=True, admin=True)
        self.may_not_connect(d, ALICE, 65534, many)
        self.may_not_connect(d, STAFF)  # a user of that number

    def test_what_a_name_stands_for(self):
        d = self.start(BASE + "[access]\nusers = daemon\n  @bin ; two of every system's\n")
        self.may(d, 1, session=True, inspect=True, admin=False)
        self.may(d, ALICE, 2, session=True, inspect=True, admin=False)
        self.may_not_connect(d, ALICE, 1)

    def test_a_notification_of_who_may_not_connect(self):
        """Is not answered, and the connection ends."""
        d = self.start(BASE + f"[access]\nusers = {ALICE}\n")
        c = self.connect(d, BOB)
        c.send(frame("ALLOCATOR_REPORT", call=0, kind=5))
        self.assertEqual(c.ends(), [])

    def test_reload(self):
        """Connections that there are have other rights from the next call on; sessions go on."""
        d = self.start()
        a, b = self.client(d, ALICE), self.client(d, BOB)
        self.calls(a, ALICE, inspect=True, admin=False)
        text = f"[access]\nusers = {ALICE}\ninspectors = {CAROL}\nadmins = {BOB}\n"
        self.assertIn("3 settings changed", self.reload(d, BASE + text))
        self.calls(a, ALICE, inspect=False, admin=False)
        self.calls(b, BOB, inspect=True, admin=True)
        self.reload(d, BASE + f"[access]\nusers = {CAROL}\n")
        self.calls(a, ALICE, inspect=False, admin=False)
        self.calls(b, BOB, inspect=False, admin=False)
        self.assertEqual(self.pages(a).code, OK)
        self.may_not_connect(d, ALICE)
        self.end(a, b)
        self.set(d, "access.users", f"{BOB}")
        self.may(d, BOB, session=True, inspect=True, admin=False)
        self.may_not_connect(d, CAROL)

    def test_many_reloads_under_load(self):
        """Rules that are looked at are not freed."""
        d = self.start(BASE + f"[access]\nadmins = {BOB}\n")
        c = self.connect(d, ALICE)
        for i in range(100):
            admins = (ALICE, BOB)[i % 2]
            for _ in range(20):
                c.ask("HEALTH_CHECK")
            self.set(d, "access.admins", f"{admins}, {CAROL}")
            for _ in range(20):
                self.assertEqual(c.receive().code, OK)
            code = c.do("ADMIN_KILL_SESSION", field(1, 60000)).code
            self.assertEqual(code, NOT_FOUND if admins == ALICE else PERMISSION_DENIED)


if __name__ == "__main__":
    main()
