# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A browser, and reports in it."""

import os
from collections import namedtuple
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.fleet.store import open_store
from ansible_collections.changetracking.inventory.plugins.plugin_utils._fleet import report
from ansible_collections.changetracking.inventory.tests.report import fleet

CHROMIUM = "/usr/bin/chromium"
GO = """(address) => new Promise((done) => {
  const drawn = () => requestAnimationFrame(done);
  if (location.hash === new URL(address, location).hash) return drawn();
  window.addEventListener("hashchange", drawn, { once: true }); // after that of the page
  location.hash = address;
})"""
DESKTOP = {"width": 1100, "height": 760}
PHONE = {"width": 360, "height": 740}
Opened = namedtuple("Opened", "page requests problems")


def write(where, path, days=30, groups=None, **more):
    """Write the report of a store, as ct_fleet_report does."""
    since = fleet.NOW - days * fleet.DAY
    scope = report.Scope(
        "Fleet report", fleet.NOW, since, 2.0 * fleet.DAY, fleet.GROUPS if groups is None else groups, **more
    )
    with open_store(where) as store:
        made = report.make(store, scope)
    report.save(made.text, str(path))
    return made


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """The path of the report of the example."""
    folder = tmp_path_factory.mktemp("example")
    fleet.example(str(folder / "fleet.db"))
    write(str(folder / "fleet.db"), folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def show(browser):
    """Open a report. At the end, nothing was requested and nothing went wrong, except for what a test takes out of these lists."""
    opened = []

    def show(path, address="", **more):
        page = browser.new_context(**{"viewport": DESKTOP, **more}).new_page()
        requests, problems = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append("dialog") or dialog.dismiss())
        page.goto(Path(path).as_uri() + address)
        page.wait_for_selector("h2")
        opened.append(Opened(page, requests, problems))
        return page

    yield show
    for page, requests, problems in opened:
        assert set(requests) == {page.url.partition("#")[0]}, requests
        assert problems == []
        page.context.close()


@pytest.fixture(scope="session")
def axe():
    return Path(os.environ["CT_AXE"]).read_text("utf-8")


def wait_for(page, text):
    page.get_by_text(text).first.wait_for(timeout=30000)


def go(page, address):
    """Open a view, and wait until it is drawn."""
    page.evaluate(GO, address)
