# Copyright (c) changetracking.inventory contributors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""Where the Azure Monitor Agent (AMA) listens, and whom it runs as."""

AMA_USERS = ("root", "syslog", "azuremonitoragent")
SOCKET = "@CAgentStream_CloudAgentInfo_%s_default_fluent.socket"  # of an extension or of one of these:
CONFIG = "config"
DIAGNOSTICS = "MaExtensionDiagnostics"
