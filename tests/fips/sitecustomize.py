# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hashlib as a host in FIPS mode has it, for every Python that starts with this folder on its PYTHONPATH.

CT_FIPS=refuse: md5 and blake2 raise ValueError, however they are called, as OpenSSL's FIPS provider makes them do.
CT_FIPS=missing: they are not there, as in a Python that was built without them.
"""

import hashlib
import os
import sys

FORBIDDEN = ("md5", "blake2b", "blake2s", "md5_sha1", "md4", "ripemd160", "sm3")
ALLOWED = ("sha1", "sha224", "sha256", "sha384", "sha512", "sha3_224", "sha3_256", "sha3_384", "sha3_512")


def _refuse(*_arguments, **_options):
    raise ValueError("[digital envelope routines] unsupported: disabled for FIPS")


def _new(name, data=b"", **options):
    if name.lower().replace("-", "_") not in ALLOWED:
        raise ValueError("unsupported hash type %s" % name)
    return _hashlib_new(name, data, **options)


_hashlib_new = hashlib.new
hashlib.new = _new
hashlib.algorithms_available = set(ALLOWED)
for _name in FORBIDDEN:
    for _module in (hashlib, sys.modules.get("_hashlib")):
        for _attribute in (_name, "openssl_" + _name):
            if hasattr(_module, _attribute):
                if os.environ.get("CT_FIPS") == "missing":
                    delattr(_module, _attribute)
                else:
                    setattr(_module, _attribute, _refuse)
