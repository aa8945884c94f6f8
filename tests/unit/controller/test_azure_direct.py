# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables, rule and functions for records that come without the Azure Monitor Agent."""

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure import tables
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.azure.ingestion import parse_rule
from ansible_collections.changetracking.inventory.plugins.plugin_utils._azure import direct

WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.OperationalInsights/workspaces/w"


def pairs(columns):
    return {column["name"]: column["type"].lower() for column in columns}


def test_tables_and_streams_have_the_columns_that_rows_have():
    bodies, rule = direct.table_bodies(), direct.rule_body(WORKSPACE, "westeurope")
    streams = rule["properties"]["streamDeclarations"]
    assert [table.name for table in tables.TABLES] == list(bodies)
    for table in tables.TABLES:
        schema = bodies[table.name]["properties"]["schema"]
        assert schema["name"] == table.name and pairs(schema["columns"]) == table.columns
        assert pairs(streams[table.stream]["columns"]) == table.columns
    assert len(streams) == len(tables.TABLES)


def test_each_stream_of_the_rule_goes_to_its_table_as_it_is():
    rule = direct.rule_body(WORKSPACE, "westeurope")
    assert (rule["kind"], rule["location"]) == ("Direct", "westeurope")
    (destination,) = rule["properties"]["destinations"]["logAnalytics"]
    assert destination["workspaceResourceId"] == WORKSPACE
    for table, flow in zip(tables.TABLES, rule["properties"]["dataFlows"]):
        assert flow == {
            "streams": [table.stream], "destinations": [destination["name"]], "transformKql": "source", "outputStream": table.stream,
        }  # fmt: skip


def test_a_function_unites_the_table_of_azure_and_ours():
    query = direct.function_bodies()["CTConfigurationChange"]["properties"]["query"]
    assert query == (
        "union isfuzzy=true ConfigurationChange,\n(CTConfigurationChange_CL\n| summarize arg_max(TimeGenerated, *) by RecordId\n"
        "| extend TimeGenerated = coalesce(OriginalTime, TimeGenerated))"
    )


def test_the_destination_is_what_the_relay_and_the_agent_take():
    rule = {
        "properties": {"endpoints": {"logsIngestion": "https://x.ingest.monitor.azure.com/"}, "immutableId": "dcr-1"}
    }
    where = direct.destination(rule)
    assert where == "azure:https://x.ingest.monitor.azure.com/dcr-1" and str(parse_rule(where)) == where
    assert direct.destination({"properties": {}}) == ""
