# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Azurite, a storage account from npm, over https; and tokens that it takes."""

import base64
import json
import os
import socket
import subprocess
import time
from pathlib import Path

from ansible_collections.changetracking.inventory.tests.helpers.program import PATIENCE, wait_for


def unsigned_token(**changes):
    """What Azurite takes for a token of Entra ID."""
    now = int(time.time())
    claims = dict({
        "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/0a0a0a0a-1111-2222-3333-444444444444/",
        "nbf": now - 60, "iat": now - 60, "exp": now + 3600,
    }, **changes)  # fmt: skip
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    words = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*words, "signature"])


class Azurite:
    """One account, `devstoreaccount1`. It may be ended and started again with what it had."""

    def __init__(self, folder, certificate, port=0):
        self.folder = folder
        self._certificate = certificate
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            self.port = sock.getsockname()[1]
        self.host = "localhost:%d" % self.port
        self.url = "https://%s/devstoreaccount1" % self.host
        self.start()

    def start(self):
        certificate, key = self._certificate
        command = [
            os.path.join(os.environ["CT_NPM"], "azurite-blob"), "--oauth", "basic", "--cert", certificate, "--key", key,
            "--skipApiVersionCheck", "--silent", "--disableTelemetry", "--blobPort", str(self.port), "--location", str(self.folder),
        ]  # fmt: skip
        with open(str(self.folder) + ".log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(
            self._listens, Path(str(self.folder) + ".log").read_text, 3 * PATIENCE
        )  # node reads thousands of files

    def _listens(self):
        assert self._process.poll() is None, Path(str(self.folder) + ".log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def end(self):
        self._process.terminate()
        self._process.wait(PATIENCE)
