# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option `forward`; what becomes of it is in _forward.py, which only runs with the option need."""

from ._cti.rule.settings import EXTENSION
from ._cti.wire.ama import AMA_USERS, CONFIG, SOCKET

ARGUMENTS = {
    "type": "dict",
    "options": {
        "address": {"type": "str", "default": SOCKET % EXTENSION},
        "config_address": {"type": "str", "default": SOCKET % CONFIG},
        "allow_users": {"type": "list", "elements": "str", "default": list(AMA_USERS)},
        "acks": {"type": "str", "choices": ["auto", "require", "off"], "default": "auto"},
        "change_tag": {"type": "str"},
        "data_tag": {"type": "str"},
        "tls_ca": {"type": "path", "default": ""},
        "tls_cert": {"type": "path", "default": ""},
        "tls_key": {"type": "path", "default": ""},
    },
}
