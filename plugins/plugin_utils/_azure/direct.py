# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Log Analytics workspace needs for records that come without the Azure Monitor Agent, as bodies of requests to ARM:
custom tables, a data collection rule of the kind Direct, and saved functions. All of it follows from the columns in azure/tables.py.
"""

from __future__ import annotations

from typing import Any

from ...module_utils._cti.azure.tables import CHANGES, DATA, ORIGINAL_TIME, TABLES, Table
from ...module_utils._cti.records import RECORD_ID, TIME

# Of Microsoft.Insights/dataCollectionRules: earlier ones do not show the endpoint of a rule.
RULE_API = "2023-03-11"
TABLE_API = "2022-10-01"  # of Microsoft.OperationalInsights/workspaces/tables
FUNCTION_API = "2020-08-01"  # of Microsoft.OperationalInsights/workspaces/savedSearches
DESTINATION = "workspace"
CATEGORY = "Change Tracking"
_TABLE_TYPES = {"datetime": "dateTime"}  # which tables and rules write in two ways
# name -> Azure's own table, which the Azure Monitor Agent fills, and ours
FUNCTIONS = {
    "CTConfigurationChange": ("ConfigurationChange", CHANGES),
    "CTConfigurationData": ("ConfigurationData", DATA),
}
_QUERY = (
    "union isfuzzy=true {azure},\n"
    "({ours}\n"
    "| summarize arg_max({time}, *) by {id}\n"
    "| extend {time} = coalesce({original}, {time}))"
)


def table_body(table: Table) -> dict[str, Any]:
    """The body of a table, whose id ends with its name."""
    columns = [{"name": name, "type": _TABLE_TYPES.get(type_, type_)} for name, type_ in table.columns.items()]
    return {"properties": {"schema": {"name": table.name, "columns": columns}}}


def table_bodies() -> dict[str, dict[str, Any]]:
    """Name -> body of all tables."""
    return {table.name: table_body(table) for table in TABLES}


def rule_body(workspace: str, location: str) -> dict[str, Any]:
    """The body of the rule that records are sent to. `workspace`: its resource id."""
    return {
        "location": location,
        "kind": "Direct",
        "properties": {
            "streamDeclarations": {
                table.stream: {"columns": [{"name": name, "type": type_} for name, type_ in table.columns.items()]}
                for table in TABLES
            },
            "destinations": {"logAnalytics": [{"workspaceResourceId": workspace, "name": DESTINATION}]},
            "dataFlows": [
                {
                    "streams": [table.stream],
                    "destinations": [DESTINATION],
                    "transformKql": "source",
                    "outputStream": table.stream,
                }
                for table in TABLES
            ],
        },
    }


def function_query(azure: str, ours: Table) -> str:
    """The rows of Azure's own table, and those of ours: one a RecordId, as a record whose acknowledgement was lost is there twice."""
    return _QUERY.format(azure=azure, ours=ours.name, time=TIME, id=RECORD_ID, original=ORIGINAL_TIME)


def function_bodies() -> dict[str, dict[str, Any]]:
    """Name -> body of all saved functions, whose ids end with their names."""
    return {
        name: {
            "properties": {
                "category": CATEGORY,
                "displayName": name,
                "functionAlias": name,
                "query": function_query(azure, ours),
                "version": 2,
            }
        }
        for name, (azure, ours) in FUNCTIONS.items()
    }


def destination(rule: dict[str, Any]) -> str:
    """What relay_upload or agent_address is for a rule as ARM returns it (with RULE_API); empty where it has no endpoint yet."""
    properties = rule.get("properties") or {}
    endpoint = (properties.get("endpoints") or {}).get("logsIngestion")
    immutable_id = properties.get("immutableId")
    return f"azure:{endpoint.rstrip('/')}/{immutable_id}" if endpoint and immutable_id else ""
