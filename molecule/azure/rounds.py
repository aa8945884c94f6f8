# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes files on the host while agent and relay are killed and the storage account is away, and waits until all has arrived.

Prints what was expected and what was found, as JSON. Every file has one text a round, and the next round begins once the agent has
recorded it: what must arrive is known to the byte.
"""

import hashlib
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree

AGENT = "/usr/local/lib/ctagent/agent.pyz"
TRACKED = "/srv/app"
CONTAINER = "https://localhost:10000/devstoreaccount1/changetrackingblob"
TOKEN = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com"
TRUST = ssl.create_default_context(cafile="/etc/azure-double.pem")
FILES = 20
SECONDS = 120


def main():
    wait("the baseline", lambda: status()["Kinds"].get("files", {}).get("CollectedAt"))
    expected = []

    expected += change(1)
    wait("the first rows", lambda: ask_double()["rows"])
    kill("ctrelay")
    wait_for_records(expected)

    ask_double("/storage/end")
    expected += change(2)
    wait("contents that wait", lambda: status().get("Uploads", {}).get("Waiting"))
    wait_for_records(expected)
    kill("ctagent")
    ask_double("/storage/start")

    expected += change(3)
    wait_for_records(expected)
    kill("ctagent", "ctrelay")

    wait("every row", lambda: len(ask_double()["rows"]) >= len(expected))
    rights = {"Authorization": "Bearer " + get_token(), "x-ms-version": "2021-08-06"}
    wait("every text", lambda: count_blobs(rights) >= len(expected))
    print(json.dumps(compare(expected, ask_double("/calm"), rights)))


def change(number):
    """Give every file another text, each by one system call. Returns the path, the category and the text of each change."""
    made = []
    for name in range(FILES):
        text = "round %d of %d, \u00e4\r\n" % (number, name) * 40
        with open("/srv/.new", "w", newline="", encoding="utf-8") as file:
            file.write(text)
        os.chmod("/srv/.new", 0o644)
        os.rename("/srv/.new", "%s/%d.conf" % (TRACKED, name))
        made.append(("%s/%d.conf" % (TRACKED, name), "Added" if number == 1 else "Modified", text.encode()))
    return made


def compare(expected, double, rights):
    told = {record["RecordId"]: record for record in changes()}
    found, wrong = [], []
    for row in double["rows"]:
        text = fetch(row["FileContentBlobLink"], **rights)
        found.append((row["FileSystemPath"], row["ChangeCategory"], text))
        if hashlib.sha256(text).hexdigest() != row["FileContentChecksum"]:
            wrong.append(row)
        if row != without_empty(told.get(row["RecordId"], {})):
            wrong.append([row, told.get(row["RecordId"])])
    return {
        "expected": len(expected), "equal": sorted(found) == sorted(expected), "recorded": len(told), "rows": len(double["rows"]),
        "blobs": count_blobs(rights), "wrong": wrong, "stored": double["stored"], "statuses": double["statuses"],
    }  # fmt: skip


def count_blobs(rights):
    listed = fetch(CONTAINER + "?restype=container&comp=list", **rights)
    return len(list(xml.etree.ElementTree.fromstring(listed).iter("Blob")))


def get_token():
    while True:
        try:
            return json.loads(fetch(TOKEN, Metadata="true").decode())["access_token"]
        except urllib.error.HTTPError:  # busy
            time.sleep(0.2)


def without_empty(record):
    """As a row has it: Azure knows no empty text."""
    return {name: value for name, value in record.items() if value not in ("", None)}


def changes():
    lines = subprocess.check_output([AGENT, "show", "changes", "--json"]).decode().splitlines()
    return [json.loads(line) for line in lines]


def status():
    return json.loads(subprocess.run([AGENT, "status", "--json"], stdout=subprocess.PIPE, check=False).stdout.decode())


def wait_for_records(expected):
    wait("a record of each change", lambda: len(changes()) >= len(expected))


def kill(*units):
    subprocess.check_call(["systemctl", "kill", "--signal=KILL", *units])


def ask_double(what="/"):
    return json.loads(fetch("http://localhost:8081" + what).decode())


def fetch(url, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    context = TRUST if url.startswith("https:") else None
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60, context=context) as answer:
        return answer.read()


def wait(what, done):
    end = time.monotonic() + SECONDS
    while not done():
        if time.monotonic() > end:
            raise SystemExit("%s did not come within %d s: %s %s" % (what, SECONDS, status(), ask_double()))
        time.sleep(0.2)


main()
