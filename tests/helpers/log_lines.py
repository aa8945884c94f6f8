# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for daemon.Log whose lines a test can read."""


class LogLines(list):
    def __call__(self, text):
        self.append(text)

    warning = error = __call__
