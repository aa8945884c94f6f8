# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the get-pip.py that ansible-test downloads from its own host: installs pip from a wheel beside it.

Lies in ansible-test's cache as get_pip_<version>.py; ansible-test gives that path in GET_PIP, and pip's arguments.
"""

import os
import sys

path = os.environ["GET_PIP"]
folder, name = os.path.split(path)
version = name[len("get_pip_") : -len(".py")].replace("_", ".")
sys.path.insert(0, os.path.join(folder, "pip-%s-py3-none-any.whl" % version))
arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]

from pip._internal.cli.main import main  # noqa: E402

sys.exit(main(["install", "--upgrade", "--force-reinstall", "--find-links", folder, *arguments]))
