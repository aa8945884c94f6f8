# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a browser: what it answers, how it is used, and that hostile text stays text."""

import io
import os
import re
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from PIL import Image

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.tests.report import conftest, fleet
from ansible_collections.changetracking.inventory.tests.report.conftest import DESKTOP, PHONE, go, wait_for

WEB03, WEB05, DB02 = "web03.example.org", "web05.example.org", "db02.example.org"
VIEWS = {
    "changes": "#changes",
    "search": "#search?q=openssl",
    "outliers": "#outliers",
    "hosts": "#hosts",
    "host": "#host?name=" + WEB03,
    "compare": f"#compare?a={WEB03}&b=group+web",
}


def rows(page):
    """The rows of the first table, once there is one: lists of texts."""
    page.wait_for_selector("main table tbody", state="attached")
    return page.evaluate(
        "() => [...document.querySelector('main table tbody').rows].map((row) => [...row.cells].map((cell) => cell.innerText))"
    )


def choose(page, label, value):
    page.get_by_label(label, exact=True).select_option(value)


def fill(page, label, text):
    page.get_by_label(label, exact=True).fill(text)
    wait_for_filter(page, text)


def wait_for_filter(page, value):
    """Until the page shows what is selected by this value, which is in its address then."""
    page.wait_for_function(
        "(value) => [...new URLSearchParams(location.hash.split('?')[1]).values()].includes(value)", arg=value
    )


# --- answers


def test_the_first_view_shows_what_changed_drift_first_and_equal_changes_once(example, show):
    page = show(example)
    assert "31 hosts (2 failed, 1 stale, 1 partial)" in page.locator("#about").inner_text()
    found = rows(page)
    levels = [row[4].partition(":")[0] for row in found]
    assert levels == sorted(levels, key=["Drift", "Perhaps Ansible", "Ansible"].index)
    drift = {row[0] for row in found if row[4] == "Drift"}
    assert {"nmap", "/etc/ssh/sshd_config", "/etc/cron.d/report"} <= drift
    (security,) = [row for row in found if "Install security updates" in row[4]]
    assert security[0] == "openssl" and "3.0.14-1~deb12u2 \u2192 3.0.15-1~deb12u1" in security[2]
    assert security[3].startswith("20 hosts") and "site.yml, alice" in security[4]
    (migration,) = [row for row in found if row[4].startswith("Perhaps Ansible")]
    assert (
        migration[0] == "postgresql"
        and "state Running \u2192 Stopped" in migration[2]
        and "Run the migration" in migration[4]
    )


def test_changes_are_filtered_and_the_address_keeps_the_filter(example, show):
    page = show(example)
    choose(page, "Kind", "files")
    assert [row[0] for row in rows(page)] == ["/etc/ssh/sshd_config", "/etc/cron.d/report"]
    choose(page, "Change", "Removed")
    assert [row[0] for row in rows(page)] == ["/etc/cron.d/report"]
    page.reload()
    assert [row[0] for row in rows(page)] == ["/etc/cron.d/report"]


def test_the_actor_that_a_host_names_is_shown_and_found(tmp_path, show):
    where = str(tmp_path / "fleet.db")
    vim = {"ChangedBy": "bob", "ChangedByProcess": "/usr/bin/vim"}
    copy = {"ChangedBy": "alice", "ChangedByProcess": "/usr/bin/python3", "ChangedByModule": "copy"}
    with fleet.Fleet(where) as filled:
        for name, actor in (("a", vim), ("b", copy), ("c", {})):
            filled.host(name, {"files": [fleet.file("/etc/motd", "b")]})
            at, written = fleet.NOW - fleet.HOUR, fleet.file("/etc/motd", "b", modified=fleet.NOW - fleet.HOUR - 60)
            filled.task(name, "ansible.builtin.copy", "Write it", at - 61, {"paths": ["/etc/motd"]})
            filled.change(name, "files", fleet.file("/etc/motd"), written, at, "FileContentChecksum", **actor)
    conftest.write(where, tmp_path / "report.html")
    page = show(tmp_path / "report.html")
    cells = [row[4] for row in rows(page)]
    assert cells[0] == "Drift: bob (vim)"
    ours = "Ansible: Write it, site.yml, alice"
    assert set(cells[1:]) == {ours, f"{ours}\nconfirmed by the host: alice, Ansible's copy"}
    fill(page, "Task, user or program", "VIM")
    assert [row[4] for row in rows(page)] == ["Drift: bob (vim)"]
    fill(page, "Task, user or program", "write ansible's copy")
    assert len(rows(page)) == 1


def test_the_time_line_opens_a_day(example, show):
    page = show(example)
    page.get_by_text("Time line as a table").click()
    page.get_by_role("button", name="2025-12-29").click()
    wait_for_filter(page, "2025-12-29")
    assert {row[0] for row in rows(page)} <= {"2025-12-29", "openssl"}
    assert "from=2025-12-29&until=2025-12-29" in page.url


def test_a_group_of_changes_opens_to_its_hosts_and_a_host_to_its_page(example, show):
    page = show(example)
    row = page.get_by_role("row").filter(has_text="Install security updates")
    row.locator("summary").click()
    assert row.get_by_role("listitem").count() == 20
    row.get_by_role("link", name=WEB03).click()
    page.get_by_role("heading", name="Host " + WEB03).wait_for()
    text = page.locator("main").inner_text()
    assert "Install security updates" in text and "/etc/ssh/sshd_config" in text
    page.go_back()
    page.get_by_role("heading", name="Changes", exact=True).wait_for()


def test_search_finds_versions_with_their_hosts(example, show):
    page = show(example)
    page.get_by_role("link", name="Search").click()
    fill(page, "Name, version or description", "openssl")
    assert [(row[2], row[3]) for row in rows(page)] == [("3.0.15-1~deb12u1", "24"), ("3.0.14-1~deb12u2", "6")]
    fill(page, "Name, version or description", "network mapper")
    assert [row[0] for row in rows(page)] == ["nmap (amd64)"] and rows(page)[0][4] == WEB05


def test_outliers_are_shown_the_rarest_first(example, show):
    page = show(example, "#outliers")
    found = {row[0]: row for row in rows(page)}
    assert WEB03 in found["/etc/ssh/sshd_config"][3] and "0666" in found["/etc/ssh/sshd_config"][3]
    assert "0644" in found["/etc/ssh/sshd_config"][4] and "(29 hosts)" in found["/etc/ssh/sshd_config"][4]
    assert WEB05 in found["nmap (amd64)"][3] and found["nmap (amd64)"][4] == "not there (29 hosts)"
    assert "openssl (amd64)" not in found  # a fifth of the hosts has the other version
    numbers = [int(row[2]) for row in rows(page)]
    assert numbers == sorted(numbers)


def test_outliers_are_looked_for_among_hosts_of_the_same_architecture(tmp_path, show):
    where = str(tmp_path / "fleet.db")
    with fleet.Fleet(where) as filled:
        for number in range(40):
            found = [fleet.package("dpkg", "1"), fleet.package("openssl", "1" if number == 7 else "2")]
            architecture = "arm64" if number < 2 else "amd64"
            filled.host(f"h{number:02d}", {"packages": [one._replace(architecture=architecture) for one in found]})
    conftest.write(where, tmp_path / "report.html")
    found = rows(show(tmp_path / "report.html", "#outliers"))
    assert [row[0] for row in found] == ["openssl (amd64)"] and "h07" in found[0][3] and "(37 hosts)" in found[0][4]


def test_failed_stale_and_partial_hosts_are_first_with_the_reason(example, show):
    page = show(example, "#hosts")
    found = rows(page)
    assert [row[1].partition(":")[0] for row in found[:5]] == ["Failed", "Failed", "Stale", "Partial", "OK"]
    assert "No route to host" in found[0][1] and found[0][2] == "never"
    assert "/var/lib/dpkg/status: locked" in next(row for row in found if row[0] == DB02)[5]
    choose(page, "First", "rare")
    assert {row[0] for row in rows(page)[:2]} == {WEB03, WEB05}


def test_a_host_is_compared_with_a_host_and_with_its_group(example, show):
    page = show(example, f"#compare?a={WEB03}&b=group+web")
    assert [row[0] for row in rows(page)] == ["/etc/ssh/sshd_config"]
    assert "0666" in rows(page)[0][2] and "0644" in rows(page)[0][3] and "(23 of 24 hosts)" in rows(page)[0][3]
    go(page, f"#compare?a={WEB05}&b=db01.example.org")
    found = {row[0]: row[2:] for row in rows(page)}
    assert found == {
        "nmap (amd64)": ["7.93+dfsg1-1", "not there"],
        "openssl (amd64)": ["3.0.15-1~deb12u1", "3.0.14-1~deb12u2"],
        "nginx": ["Running, Enabled, /usr/lib/systemd/system/nginx.service", "not there"],
        "postgresql": ["not there", "Running, Enabled, /usr/lib/systemd/system/postgresql.service"],
    }


ITEMS = """async () => {
  const report = await Report.read();
  return report.hosts.map((name, host) => [name, report.kinds.map((kind) => kind.itemsOf(host).map((item) =>
    kind.columns.map((column) => column.at(item)).join("|")))]);
}"""
COUNTS = """async () => {
  const report = await Report.read();
  for (const kind of report.kinds) {
    const counts = new Int32Array(kind.size);
    for (let host = 0; host < kind.hosts; host++) for (const item of kind.itemsOf(host)) counts[item]++;
    for (let item = 0; item < kind.size; item++) {
      if (kind.counts()[item] !== counts[item] || kind.hostsOf(item).length !== counts[item]) return kind.label(item);
    }
  }
  return "";
}"""


def in_store(where):
    """What the store has of each host, as ITEMS returns it."""
    fields = (
        ("Software", "SoftwareName, Architecture, CurrentVersion, SoftwareDescription"),
        ("Daemons", "SvcName, SvcState, SvcStartupType, SvcPath, SvcDescription"),
        (
            "Files",
            'FileSystemPath, substr(FileContentChecksum, 1, 16), Mode, Owner, "Group", Size, FileType, LinkTarget',
        ),
    )
    with open_store(where) as store:
        names = [name for (name,) in store.query("SELECT name FROM hosts ORDER BY name")]
        found = {name: [[], [], []] for name in names}
        for place, (kind, columns) in enumerate(fields):
            for host, *values in store.query(
                f"SELECT Host, {columns} FROM ConfigurationData WHERE ConfigDataType = ?", kind
            ):
                found[host][place].append("|".join("" if value is None else str(value) for value in values))
    return {name: [sorted(set(items)) for items in kinds] for name, kinds in found.items()}


def test_each_host_has_the_items_of_the_store(tmp_path, show):
    """Hosts that share most items, some that share none, several versions of one package, and rows that differ in times alone."""
    where = str(tmp_path / "fleet.db")
    with fleet.Fleet(where) as filled:
        for number in range(40):
            filled.host(f"h{number:02d}", various(number))
    conftest.write(where, tmp_path / "report.html")
    page = show(tmp_path / "report.html")
    assert {name: [sorted(items) for items in kinds] for name, kinds in page.evaluate(ITEMS)} == in_store(where)
    assert page.evaluate(COUNTS) == ""


def various(number):
    if number % 10 == 9:
        return {"packages": [fleet.package(f"own-{number}-{one}", "1") for one in range(50)]}
    items = fleet.usual()
    items["packages"] = [one for place, one in enumerate(items["packages"]) if ((number * 7919) >> place) % 9]
    items["packages"] += [fleet.package("kernel", f"5.{version}") for version in range(number % 4)]
    items["packages"] += [fleet.package("bash", "5.3")] * (number % 5 == 0) + [fleet.package("curl", "8", "other")] * (
        number % 3 == 0
    )
    items["files"] = [one._replace(modified=fleet.NOW - number) for one in items["files"]]
    return items


# --- for everybody


def test_all_of_it_works_with_the_keyboard_alone(example, show):
    page = show(example)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _press in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY" and "hosts" in page.evaluate(
            "document.activeElement.textContent"
        ):
            break
    page.keyboard.press("Enter")
    page.locator("main details li a").first.wait_for()
    page.keyboard.press("Tab")
    name = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Host " + name).wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H2"  # where a screen reader goes on
    assert name in page.title()
    page.get_by_role("link", name="Search").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Search").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("nmap")
    wait_for(page, "The network mapper")
    assert page.locator("#status").inner_text() == "1 found"


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)], ids=["desktop", "phone"])
def test_axe_finds_nothing(example, show, axe, scheme, size):
    page = show(example, color_scheme=scheme, viewport=size)
    page.evaluate(axe)
    for name, address in VIEWS.items():
        go(page, address)
        for summary in page.locator("main summary").all()[:3]:
            summary.click()
        found = page.evaluate("async () => (await axe.run()).violations.map((one) => [one.id, one.nodes[0].html])")
        assert found == [], name


def test_nothing_is_wider_than_a_phone(example, show):
    page = show(example, viewport=PHONE)
    for name, address in VIEWS.items():
        go(page, address)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name


def test_print_shows_tables_without_controls(example, show):
    page = show(example, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden() and page.locator("form").first.is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("main table").first.is_visible()
    assert len(page.pdf(format="A4")) > 10_000


# --- hostile text

MARKUP = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "{{data}}", "{{ lookup('pipe', 'id') }}",
    "javascript:alert(1)", "\u202egpj.exe", "\u2066a\u2069", "a\u200bb", "a\r\nb\x1b[31m\x07", "__proto__", "constructor", "&lt;b&gt;", "'\"`", "\U0001f600",
    "e" + "\u0301" * 60, "\u05e9\u05dc\u05d5\u05dd", "-->", "]]>", "%3Cscript%3E", "#hosts",
)  # fmt: skip


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "noscript", "script", "header", "nav", "main", "h1", "h2", "h3", "p", "a", "ul", "li", "div"),
    *("form", "label", "input", "select", "option", "datalist", "button", "details", "summary", "svg", "rect", "span", "i", "bdi"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
}  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report in which every text that a host or a run can choose is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    where = str(folder / "fleet.db")
    long = "x" * (1 << 20)
    with fleet.Fleet(where) as filled:
        for number, text in enumerate((*MARKUP, long)):
            host = f"h{number:02d}{text[:40]}"
            packages = [fleet.package(one, one, one) for one in sorted({text, "openssl"})] + [
                fleet.package(long, long, long)
            ]
            files = [fleet.file("/" + text)._replace(owner=text, group=text, link_target=text)]
            services = [fleet.service("s")._replace(name=text, description=text, path=text)]
            sources = {text[:99]: {"status": "failed", "message": text}}
            filled.host(host, {"packages": packages, "services": services, "files": files}, sources=sources)
            filled.task(
                host, text[:99] or "m", text, fleet.NOW - fleet.DAY, {"names": [text[:99]]}, f"run-{number}", text, text
            )
            filled.change(
                host,
                "packages",
                fleet.package(text, "1"),
                fleet.package(text, text),
                fleet.NOW - fleet.DAY,
                "CurrentVersion",
            )
            actor = dict.fromkeys(("ChangedBy", "ChangedByProcess", "ChangedByModule"), text)
            filled.change(host, "files", None, files[0], fleet.NOW - 2 * fleet.DAY, **actor)
            if number % 2:
                filled.failed(host, text)
    groups = {text: [f"h00{MARKUP[0]}", f"h01{MARKUP[1]}"] for text in MARKUP}
    made = conftest.write(where, folder / "report.html", groups=groups)
    assert len(made.text) < 400_000
    return folder / "report.html"


def test_hostile_text_is_text_in_every_view(hostile, show):
    page = show(hostile)
    tags = "() => [...new Set([...document.querySelectorAll('*')].map((one) => one.localName))]"
    known = set(page.evaluate(tags))
    assert page.locator("script").count() == 2
    names = page.evaluate("async () => (await Report.read()).hosts")
    addresses = [
        "#search?q=script",
        "#search?q=e",
        "#outliers",
        "#hosts",
        *("#host?name=" + quote(name) for name in names),
    ]
    addresses += [f"#compare?a={quote(names[0])}&b={quote('group ' + text)}" for text in MARKUP]
    for address in addresses:
        go(page, address)
        known |= set(page.evaluate(tags))
        assert not page.locator("main script, main img, main b").count(), address
        assert page.evaluate("document.documentElement.scrollWidth") <= DESKTOP["width"], address
        text = page.locator("main").inner_text()
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x1b\x07]", text), address
        links = page.evaluate("() => [...document.links].map((link) => link.getAttribute('href'))")
        assert all(link.startswith("#") for link in links), address
    assert known <= TAGS
    go(page, "#search?q=" + quote(MARKUP[0]))
    assert MARKUP[0] in page.locator("main table").first.inner_text()


def quote(text):
    return quote_plus(text.encode("utf-8", "replace"))


def test_the_policy_stops_what_the_page_does_not_do(example, browser):
    """A request, another script, and text that is read as markup."""
    page = browser.new_page()
    page.goto(Path(example).as_uri())
    page.wait_for_selector("h2")
    with page.expect_console_message(lambda message: "example.org/x.png" in message.text):
        for attempt in (
            "fetch('https://example.org/')",
            "fetch('file:///etc/passwd')",
            "(() => { document.body.innerHTML = '<b>x</b>'; })()",
            "(() => { new Image().src = 'https://example.org/x.png'; throw Error('see console'); })()",
            "(() => { const one = document.createElement('script'); one.textContent = 'window.ran = 1'; document.body.append(one); })()",
            "(() => { document.write('<b>x</b>'); })()",
        ):
            with pytest.raises(Exception):  # noqa: B017
                page.evaluate(attempt)
    assert page.evaluate("window.ran") is None and page.locator("b").count() == 0
    page.close()


# --- pictures for the documentation

PICTURES = {
    "desktop": ("#changes", {}),
    "dark": ("#outliers", {"color_scheme": "dark"}),
    "phone": ("#host?name=" + WEB03, {"viewport": {"width": 360, "height": 640}}),
    "print": ("#hosts", {"viewport": {"width": 794, "height": 560}}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(example, show, name, tmp_path):
    """They are made again by `make report-pictures`, which sets CT_PICTURES."""
    address, options = PICTURES[name]
    page = show(example, address, **options)
    if name == "print":
        page.emulate_media(media="print")
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(48, dither=Image.Dither.NONE)
    path = Path(os.environ.get("CT_PICTURES") or tmp_path) / f"report-{name}.png"
    image.save(path, optimize=True)
    assert path.stat().st_size < 60_000
    kept = Path(__file__).parents[2] / "docs/pictures" / path.name
    assert Image.open(kept).size == image.size


def test_the_report_of_an_empty_store_says_so(tmp_path, show):
    with open_store(str(tmp_path / "fleet.db"), write=True):
        pass
    conftest.write(str(tmp_path / "fleet.db"), tmp_path / "report.html")
    page = show(tmp_path / "report.html")
    for address in VIEWS.values():
        go(page, address)
    assert page.locator("#about").inner_text().startswith("0 hosts")
