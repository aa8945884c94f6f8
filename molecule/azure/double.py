# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""double.py FOLDER: what a virtual machine in Azure has around it, in the network of a host.

The metadata service at its own address, which gives tokens; a storage account (Azurite) at port 10000, with the container for contents;
log ingestion at port 8443, as strict as Azure. The metadata service and log ingestion are busy by turns, and log ingestion loses answers,
until port 8081 is asked for /calm. That port also ends and starts the storage account, and shows the rows that arrived. FOLDER/ready
exists once all of them answer.
"""

import ssl
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from ansible_collections.changetracking.inventory.tests.helpers import web
from ansible_collections.changetracking.inventory.tests.helpers.azurite import Azurite, unsigned_token
from ansible_collections.changetracking.inventory.tests.helpers.log_analytics import Workspace, error

STORAGE, MONITOR = "https://storage.azure.com", "https://monitor.azure.com"
METADATA_TURNS = [410, 429, None]
BUSY = {"Retry-After": "1"}
INGESTION_TURNS = [
    error(429, "TooManyRequests", **BUSY),
    Workspace.LOST,
    None,
    error(503, "ServiceUnavailable", **BUSY),
    None,
]


class Double:
    def __init__(self, folder):
        self.calm = False
        self.asked = 0
        self.certificate = web.make_certificate(folder)
        self.workspace = Workspace(self.ingestion_fault)
        self.storage = Azurite(folder / "azurite", self.certificate, 10000)

    def metadata(self, request):
        self.asked += 1
        turn = METADATA_TURNS[self.asked % len(METADATA_TURNS)]
        if turn and not self.calm:
            return web.answer(turn, {"error": "busy"})
        if request.headers.get("metadata") != "true" or "x-forwarded-for" in request.headers:
            return web.answer(400, {"error": "invalid_request"})
        resource = dict(parse_qsl(urlsplit(request.target).query))["resource"].rstrip("/")
        token = unsigned_token(aud=resource, jti=str(self.asked))
        if resource == MONITOR:
            self.workspace.token = token  # an older one is refused, as if it had expired
        end = int(time.time()) + 3600
        return web.answer(
            200, {"access_token": token, "expires_in": "3600", "expires_on": str(end), "resource": resource}
        )

    def ingestion_fault(self, number, _rows):
        return None if self.calm else INGESTION_TURNS[(number - 1) % len(INGESTION_TURNS)]

    def create_container(self):
        headers = {"Authorization": "Bearer " + unsigned_token(), "x-ms-version": "2021-08-06"}
        url = self.storage.url + "/changetrackingblob?restype=container"
        request = urllib.request.Request(url, method="PUT", headers=headers)
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=self.certificate[0])):
            pass

    def control(self, request):
        if request.target == "/calm":
            self.calm = True
        elif request.target == "/storage/end":
            self.storage.end()
        elif request.target == "/storage/start":
            self.storage.start()
        rows = self.workspace.function("CTConfigurationChange_CL")
        return web.answer(200, {"rows": rows, "stored": self.workspace.stored, "statuses": self.workspace.statuses})


def main(folder):
    double = Double(folder)
    double.create_container()
    web.Web(double.metadata, port=80, host="169.254.169.254")
    web.Web(double.workspace.respond, double.certificate, port=8443)
    web.Web(double.control, port=8081)
    (folder / "ready").touch()
    threading.Event().wait()


main(Path(sys.argv[1]))
