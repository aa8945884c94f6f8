# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role azure makes, checks and removes in Azure, against the double of ARM."""

import copy
import json

import pytest

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import dcr, recommended
from ansible_collections.changetracking.inventory.plugins.plugin_utils._azure import arm, asked, compare, plan, rule
from ansible_collections.changetracking.inventory.tests.helpers.arm import SECRET, Fault
from ansible_collections.changetracking.inventory.tests.helpers.azure_role import (
    ACCOUNT,
    AMA,
    ARC,
    ASSOCIATION,
    CT,
    GROUP,
    IDENTITY,
    RULE,
    RUNNING,
    STOPPED,
    SUBSCRIPTION,
    VM,
    VMSS,
    WORKSPACE,
    Role,
    subscription,
)  # fmt: skip

pytestmark = pytest.mark.no_core

SEEN = "ama=active\ncxp=active\nchunks=1\nrule=1\nconfig_socket=1\ndata_socket=1\nready=1\n"


@pytest.fixture
def azure():
    return subscription()


def role(azure, *machines, **options):
    options.setdefault("document", recommended.rule())
    return Role(azure, *machines, **options)


@pytest.mark.parametrize("machine", [VM, VMSS, ARC])
def test_a_machine_of_each_kind_is_deployed_and_checked_and_a_second_run_changes_nothing(azure, machine):
    name = machine.rpartition("/")[2]
    identity = [] if machine == ARC else ["the identity of " + name]  # which every Arc machine has
    assert role(azure, machine).deploy() == [
        "the workspace logs", "the solution ChangeTracking", "the rule ct-dcr", *identity,
        "the extension AzureMonitorLinuxAgent of " + name, "the extension ChangeTracking-Linux of " + name, "the association of " + name,
    ]  # fmt: skip
    assert role(azure, machine).summary(machine) == "All checks passed."
    written = len(azure.written())
    assert role(azure, machine).deploy() == [] and len(azure.written()) == written


def test_check_mode_names_the_same_changes_and_writes_nothing(azure):
    expected = role(subscription(), VM, VMSS, ARC).deploy()
    checked = role(azure, VM, VMSS, ARC)
    # The workspace does not exist yet, so the second and the third machine are not told from the first.
    assert checked.deploy(check=True) == expected
    assert azure.written() == []
    assert all(before == {} for before, _after in checked.diffs)


def test_what_azure_adds_and_how_it_spells_is_no_difference():
    wanted = {
        "location": "westeurope",
        "properties": {"id": "/subscriptions/A", "streams": ["x", "y"], "typeHandlerVersion": "1.0", "settings": {}},
    }
    found = {
        "location": "West Europe", "tags": {"a": "b"},
        "properties": {"id": "/subscriptions/a", "streams": ["y", "x"], "typeHandlerVersion": "1.33.2", "provisioningState": "Succeeded"},
    }  # fmt: skip
    assert compare.seen(wanted, found) == wanted


def test_a_key_that_is_no_longer_in_the_rule_is_a_difference(azure):
    role(azure).deploy()
    found = azure.get(RULE)["properties"]["dataSources"]["extensions"][0]["extensionSettings"]
    found["enableUpload"] = True
    again = role(azure)
    assert again.deploy() == ["the rule ct-dcr"]
    assert "enableUpload" not in azure.get(RULE)["properties"]["dataSources"]["extensions"][0]["extensionSettings"]
    ((before, after),) = again.diffs
    path = ("properties", "dataSources", "extensions", 0, "extensionSettings")
    for key in path:
        before, after = before[key], after[key]
    assert before.pop("enableUpload") is True and before == after


def test_another_data_source_in_the_rule_is_taken_out(azure):
    role(azure).deploy()
    azure.get(RULE)["properties"]["dataSources"]["syslog"] = [{"name": "s"}]
    assert role(azure).deploy() == ["the rule ct-dcr"]
    assert list(azure.get(RULE)["properties"]["dataSources"]) == ["extensions"]


def test_tags_of_others_stay_and_what_was_there_is_not_marked_as_made(azure):
    azure.add(RULE, location="westeurope", tags={"owner": "them"})
    azure.add(WORKSPACE, location="northeurope", properties={"sku": {"name": "CapacityReservation"}})
    role(azure).deploy()
    assert azure.get(RULE)["tags"] == {"owner": "them"}
    assert azure.get(RULE)["location"] == "northeurope"  # where the workspace is
    assert azure.get(WORKSPACE)["properties"]["sku"] == {"name": "CapacityReservation"}
    removed = role(azure)
    assert removed.remove() == [] and removed.kept == ["the rule ct-dcr stays: the role azure did not make it."]


def test_what_deploy_made_is_removed_and_nothing_else(azure):
    before = copy.deepcopy(azure.resources)
    role(azure, VM, VMSS, ARC).deploy()
    azure.add(VM + "/extensions/Other", properties={"publisher": "p", "type": "Other"})
    names = ["association", "extension ChangeTracking-Linux", "extension AzureMonitorLinuxAgent"]
    machines = ["web01", "front", "rack1"]
    expected = ["the %s of %s" % (name, machine) for machine in machines for name in names] + ["the rule ct-dcr"]
    assert role(azure, VM, VMSS, ARC).remove(check=True) == expected
    assert role(azure, VM, VMSS, ARC).remove() == expected
    left = set(azure.resources) - set(before)
    assert {one.rpartition("/")[2] for one in left} == {"logs", "changetracking(logs)", "other"}
    assert role(azure, VM, VMSS, ARC).remove() == []


def test_data_is_removed_only_on_demand_and_a_resource_group_only_if_it_is_empty(azure):
    workspace = WORKSPACE.replace("/ops/", "/new/")
    options = {"workspace": workspace, "remove_data": True}
    role(azure, **options).deploy()
    role(azure, workspace=workspace).remove()
    assert azure.get(workspace)
    azure.add(GROUP.replace("ops", "new") + "/providers/Microsoft.Compute/disks/d")
    removed = role(azure, **options)
    assert removed.remove() == ["the solution ChangeTracking", "the workspace logs"]
    assert removed.kept[-1].startswith("the resource group new stays: ") and removed.kept[-1].endswith(
        "/disks/d uses it."
    )


def test_an_extension_that_another_rule_needs_stays(azure):
    role(azure, VM).deploy()
    azure.add(VM + ASSOCIATION + "insights", properties={"dataCollectionRuleId": RULE.replace("ct-dcr", "insights")})
    removed = role(azure, VM)
    assert "the extension AzureMonitorLinuxAgent of web01" not in removed.remove()
    assert removed.kept == [
        "the extension AzureMonitorLinuxAgent of web01 stays: %s uses it." % (VM + ASSOCIATION + "insights")
    ]


def test_how_others_have_an_extension_upgraded_is_left_to_them(azure):
    theirs = {
        "publisher": "Microsoft.Azure.Monitor",
        "type": "AzureMonitorLinuxAgent",
        "typeHandlerVersion": "1.33",
        "enableAutomaticUpgrade": False,
        "settings": {"proxy": 1},
    }
    azure.add(VM + "/extensions/ama", location="westeurope", properties={**theirs, "provisioningState": "Succeeded"})
    assert "the extension AzureMonitorLinuxAgent of web01" not in role(azure, VM).deploy()
    azure.get(VM + "/extensions/ama")["properties"]["provisioningState"] = "Failed"
    assert "the extension AzureMonitorLinuxAgent of web01" in role(azure, VM).deploy()
    (sent,) = azure.bodies("/extensions/ama$")
    assert sent["properties"].items() >= theirs.items() and "tags" not in sent


def test_a_list_of_several_pages_is_read_to_its_end(azure):
    role(azure, VM).deploy()
    for number in range(10):
        azure.add(ARC + ASSOCIATION + "a%d" % number, properties={"dataCollectionRuleId": RULE})
    removed = role(azure, VM)
    removed.remove()
    assert removed.kept == ["the rule ct-dcr stays: %sa0 and 9 more use it." % (ARC + ASSOCIATION)]


@pytest.mark.parametrize(
    "link", ["https://localhost:1/next?b=c", "x:https://elsewhere/next", "//elsewhere/next", "next", 7, ["/next"]]
)
def test_no_link_of_an_answer_leads_to_another_server(link):
    urls = []

    def ask(arguments):
        urls.append(arguments["url"])
        return {"response": {"value": [{"id": "/a"}, "b"], "nextLink": link}} if len(urls) == 1 else {"response": {}}

    try:
        assert arm.Arm(ask, {}, 10).list("/list", "1") == [{"id": "/a"}]
    except arm.ArmError as error:
        assert "is not the id of a resource in Azure. Nothing was sent." in str(error)
    assert urls in (["/list"], ["/list", "/next?b=c"], ["/list", "/next?"])


@pytest.mark.parametrize("ident", ["https://elsewhere/subscriptions/s", "//elsewhere/x", "", "x", None, {}])
def test_no_id_in_an_answer_is_asked_of_another_server(azure, ident):
    azure.add(VM + ASSOCIATION + "other", properties={"dataCollectionRuleId": ident})
    try:
        role(azure, VM).deploy()
    except arm.ArmError as error:
        assert "is not the id of a resource in Azure. Nothing was sent." in str(error)
    assert all(path.startswith("/subscriptions/") for _method, path, _body in azure.requests)


@pytest.mark.parametrize("key", ["identity", "properties", "location", "id"])
@pytest.mark.parametrize("odd", [7, "x", ["a"], {"a": [None]}, True])
def test_an_answer_of_another_form_is_one_sentence(azure, key, odd):
    azure.get(VM)[key] = odd
    azure.add(VM + ASSOCIATION + "other", properties={"dataCollectionRuleId": odd})
    found = asked.answer(lambda: {"changed": role(azure, VM).deploy()})
    assert found["failed"] and "\n" not in found["msg"]


@pytest.mark.parametrize("how", ["credentials", "environment"])
def test_no_secret_or_token_that_azure_repeats_is_in_a_message(monkeypatch, how):
    token = "eyJ0eXAiOiJKV1Qi.eyJhdWQiOiJodHRw.c2lnbmF0dXJl"
    if how == "environment":
        monkeypatch.setenv("AZURE_SECRET", SECRET)
    repeated = f"You sent {SECRET} and Bearer {token} for x."
    body = json.dumps({"error": {"code": f"Bad{SECRET}", "message": repeated}})
    for answer in (f"Task failed: {(body, 403)!r}", repeated, f"AADSTS7000215: {repeated}"):
        result = {"failed": True, "msg": answer}
        azure = arm.Arm(lambda _arguments, result=result: result, {"secret": SECRET} if how == "credentials" else {}, 1)
        with pytest.raises(arm.ArmError, match=r"You sent \.\.\. and Bearer \.\.\. for x") as caught:
            azure.get(VM, "1")
        assert SECRET not in str(caught.value) and token not in str(caught.value)


def test_the_rule_stays_while_other_machines_use_it(azure):
    role(azure, VM, ARC).deploy()
    removed = role(azure, VM)
    removed.remove()
    assert removed.kept == ["the rule ct-dcr stays: %sct-inventory uses it." % (ARC + ASSOCIATION)] and azure.get(RULE)


def test_the_agent_of_this_collection_takes_the_place_of_the_extension(azure):
    assert "the extension ChangeTracking-Linux of web01" not in role(azure, VM, agent="own").deploy()
    own = {
        "seen": SEEN.replace("cxp=active", "cxp=inactive"),
        "agent": {"doctor": {"Ok": True, "Summary": "All checks passed."}},
    }
    assert role(azure, agent="own").summary(VM, own) == "All checks passed."
    waiting = (
        "Checks passed, with 1 warning: agent. The agent of this collection does not answer. Run the playbook deploy."
    )
    assert role(azure, agent="own").summary(VM, {**own, "agent": {"installed": False}}) == waiting
    azure.add(
        VM + CT, properties={"publisher": "Microsoft.Azure.ChangeTrackingAndInventory", "type": "ChangeTracking-Linux"}
    )
    assert "so every change is reported twice" in role(azure, agent="own").summary(VM, own)


def test_a_user_assigned_identity_is_put_on_the_machine_and_named_to_ama(azure):
    azure.get(VM)["identity"] = {
        "type": "SystemAssigned, UserAssigned",
        "principalId": "p",
        "userAssignedIdentities": {IDENTITY + "2": {}},
    }
    assert "the identity of web01" in role(azure, VM, identity=IDENTITY).deploy()
    assert set(azure.get(VM)["identity"]["userAssignedIdentities"]) == {IDENTITY, IDENTITY + "2"}
    (ama,) = azure.bodies(AMA)
    assert ama["properties"]["settings"]["authentication"]["managedIdentity"] == {
        "identifier-name": "mi_res_id",
        "identifier-value": IDENTITY,
    }
    assert role(azure, VM, identity=IDENTITY.upper().replace("/SUBSCRIPTIONS", "/subscriptions")).deploy() == []
    assert "Arc machine, which has no user-assigned identity" in role(azure, ARC, identity=IDENTITY).problem()


def test_the_identity_may_store_the_contents_of_files(azure):
    azure.add(ACCOUNT)
    options = {"contents_account": ACCOUNT}
    changed = role(azure, VM, **options).deploy()
    assert changed[-2:] == [
        "the container changetrackingblob",
        "the role Storage Blob Data Contributor on changetrackingblob",
    ]
    (assignment,) = azure.bodies("/roleAssignments/")
    assert assignment["properties"]["principalId"] == azure.get(VM)["identity"]["principalId"]
    settings = azure.get(RULE)["properties"]["dataSources"]["extensions"][0]["extensionSettings"]
    assert settings["enableUpload"] is True and settings["fileSettings"]["uploadSetting"] == {
        "storageAccountResourceId": ACCOUNT, "blobEndpoint": "https://contents1.blob.core.windows.net/", "managedIdentity": "",
    }  # fmt: skip
    assert role(azure, VM, **options).deploy() == []
    fresh = subscription()
    fresh.add(ACCOUNT)
    assert role(fresh, VM, **options).deploy(check=True) == changed


def test_a_role_that_was_assigned_by_hand_is_not_assigned_again(azure):
    azure.add(ACCOUNT)
    azure.get(VM)["identity"] = {"type": "SystemAssigned", "principalId": "p-1"}
    scope = ACCOUNT + "/blobServices/default/containers/changetrackingblob"
    definition = (
        SUBSCRIPTION + "/providers/Microsoft.Authorization/roleDefinitions/ba92f5b4-2d11-453d-a403-e96b0029c9fe"
    )
    azure.add(
        scope + "/providers/Microsoft.Authorization/roleAssignments/by-hand",
        properties={"principalId": "p-1", "roleDefinitionId": definition},
    )
    assert not [name for name in role(azure, VM, contents_account=ACCOUNT).deploy() if "role" in name]


# --- rules


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"serviceSettings": {}}, "serviceSettings is not a key of the DCR format and is ignored (did you mean servicesSettings?)"),
        ({"fileSettings": {"fileinfo": [{"destinationPath": "/etc/x"}]}}, "fileinfo"),
        ({"fileSettings": {"fileInfo": [{"name": "a", "destinationPath": "/etc/x", "recursive": True}]}}, "recursive is not a key"),
    ],
)  # fmt: skip
def test_what_azure_would_ignore_without_a_word_is_refused_before_anything_is_sent(azure, settings, problem):
    document = {
        "properties": {
            "dataSources": {"extensions": [{"extensionName": "ChangeTracking-Linux", "extensionSettings": settings}]}
        }
    }
    assert problem in role(azure, VM, document=document).problem()
    assert azure.written() == []


def test_a_key_that_is_ignored_can_be_allowed(azure):
    settings = {"serviceSettings": {}}
    document = {
        "dataSources": {"extensions": [{"extensionName": "ChangeTracking-Linux", "extensionSettings": settings}]}
    }
    assert role(azure, document=document, allow_ignored=True).problem() == ""


def test_a_rule_with_other_data_sources_is_refused_and_the_part_for_windows_is_kept(azure):
    windows = {
        "name": "CTDataSource-Windows",
        "extensionName": "ChangeTracking-Windows",
        "extensionSettings": {"enableFiles": True},
        "streams": [],
    }
    linux = {"extensionName": "ChangeTracking-Linux", "extensionSettings": {"enableFiles": False}}
    document = {"properties": {"dataSources": {"extensions": [windows, linux]}}}
    role(azure, document=document).deploy()
    assert azure.get(RULE)["properties"]["dataSources"]["extensions"][1] == windows
    document["properties"]["dataSources"]["syslog"] = [{"name": "s"}]
    assert "The rule has the data source syslog." in role(azure, document=document).problem()


def test_track_is_the_rule_that_the_role_agent_makes_of_it(azure):
    track = {
        "files": ["/etc/*.conf", {"name": "x", "destinationPath": "/srv/x", "recurse": False}],
        "packages_every": 0,
        "files_every": 600,
    }
    role(azure, document=None, track=track).deploy()
    settings = dcr.given(azure.get(RULE), "")
    assert set(settings.kinds) == {"files", "services"}
    assert [(one.name, one.path, one.recurse) for one in settings.file_rules] == [
        ("/etc/*.conf", "/etc/*.conf", True),
        ("x", "/srv/x", False),
    ]
    assert settings.every("files") == 600 and settings.inventory_every == 36000


def test_the_keys_that_the_portal_writes_do_not_change_what_is_tracked():
    made = rule.body(rule.settings_of_document(recommended.rule()), WORKSPACE, "x", None, {})
    ours, theirs = dcr.given(recommended.rule(), ""), dcr.given(made, "")
    assert [(one.name, *one.tracking, one.contents) for one in theirs.file_rules] == [
        (one.name, *one.tracking, one.contents) for one in ours.file_rules
    ]
    assert theirs.warnings == [] and theirs.kinds == ours.kinds and dict(theirs.intervals) == dict(ours.intervals)


def test_a_rule_that_exists_is_left_as_it_is_where_none_is_given(azure):
    role(azure).deploy()
    before = copy.deepcopy(azure.get(RULE))
    assert role(azure, document=None).deploy() == [] and azure.get(RULE) == before
    assert "Set azure_dcr to recommended, or azure_track" in Role(subscription()).problem()


def test_a_rule_that_is_left_as_it_is_must_upload_to_the_account(azure):
    azure.add(ACCOUNT)
    role(azure).deploy()
    options = {"document": None, "contents_account": ACCOUNT}
    problem = role(azure, VM, **options).problem()
    assert "but the rule 'ct-dcr' in Azure does not upload to contents1" in problem
    assert not [one for _method, one in azure.written() if one.startswith(ACCOUNT)]
    role(azure, contents_account=ACCOUNT).deploy()
    assert role(azure, VM, **options).problem() == ""


def test_a_key_that_azure_did_not_keep_is_named(azure):
    azure.ignored = ("enableServices",)
    deployed = role(azure)
    deployed.deploy()
    assert deployed.lost == ["properties.dataSources.extensions"]


# --- bad days


def test_another_deployment_and_a_busy_azure_are_waited_for(azure):
    azure.faults = [
        Fault("PUT", "AzureMonitorLinuxAgent$", 409, "Conflict", "Another operation is in progress.", times=2),
        Fault("GET", "workspaces/logs$", 429, "TooManyRequests", "Please try again after '120' seconds."),
        Fault("PUT", "dataCollectionRules/ct-dcr$", 503, "ServiceUnavailable"),
    ]
    deployed = role(azure, VM, timeout=600)
    deployed.deploy()
    assert 120.0 in deployed.waited and role(azure, VM).deploy() == []
    assert [one for method, one in azure.written() if one.endswith(AMA)] == [VM + AMA] * 3


def test_waiting_ends_with_a_sentence(azure):
    azure.faults = [
        Fault("PUT", "AzureMonitorLinuxAgent$", 409, "Conflict", "Another operation is in progress.", times=99)
    ]
    assert role(azure, VM).problem() == (
        "Azure refuses to create the extension AzureMonitorLinuxAgent of web01 (409 Conflict: Another operation is in progress)."
        " It was tried again for 100 s. Run this again later."
    )


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("MissingSubscriptionRegistration", "Register the resource provider that the message names"),
        ("ReadOnlyDisabledSubscription", "Ask the owner of the subscription to enable it."),
        ("InvalidResourceLocation", "Give the id of another resource, or set azure_location"),
    ],
)
def test_an_answer_that_stays_the_same_is_not_waited_for(azure, code, remedy):
    azure.faults = [Fault("PUT", "workspaces/logs$", 409, code, "Why.", times=99)]
    deployed = role(azure)
    assert "(409 %s: Why). %s" % (code, remedy) in deployed.problem() and deployed.waited == []


def test_a_misspelled_key_of_the_credentials_is_named(azure, monkeypatch):
    refused = {
        "failed": True,
        "msg": "Unsupported parameters for (azure.azcollection.azure_rm_resource) module: tennant. Supported parameters include:"
        " subscription_id, tenant.",
    }
    monkeypatch.setattr(azure, "ask", lambda _arguments: refused)
    assert role(azure).problem() == (
        "azure_credentials has what azure.azcollection.azure_rm_resource does not know: tennant."
        " Use its options, such as tenant, client_id and secret."
    )


TRACEBACK = """%sTraceback (most recent call last):
  File "/root/.ansible/tmp/ansible-tmp-1795752788.39/AnsiballZ_azure_rm_resource.py", line 99, in _ansiballz_main
    invoke_module(zipped_mod, temp_path, ANSIBALLZ_PARAMS)
  File "/usr/lib/python3/site-packages/azure/core/pipeline/policies/_authentication.py", line 100, in _get_token
    return cast(SupportsTokenInfo, self._credential).get_token_info(*scopes, options=options)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
%s
"""


@pytest.mark.parametrize(
    "msg",
    ["MODULE FAILURE\nSee stdout/stderr for the exact error", "MODULE FAILURE: No start of json char found\nSee stdout/stderr for the exact error", None],
    ids=["2.16", "2.18", "2.21"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("logged", "exception", "text", "problem"),
    [
        (
            "ClientSecretCredential.get_token_info failed: Authentication failed: AADSTS7000215: Invalid client secret provided.\n",
            "azure.core.exceptions.ClientAuthenticationError: ", "Authentication failed: AADSTS7000215: Invalid client secret provided.",
            "Cannot sign in to Azure to read workspaces/logs (%sAuthentication failed: AADSTS7000215: Invalid client secret provided). Run az",
        ),
        (
            "", "AttributeError: ", "'StopIteration' object has no attribute 'message'",
            "Cannot read workspaces/logs: %s'StopIteration' object has no attribute 'message'. Check the network from the controller to Azure.",
        ),
        (
            "", "ansible_collections.azure.azcollection.plugins.module_utils.azure_rm_common_rest.SendRequestException: ",
            repr((json.dumps({"error": {"code": "Conflict", "message": "Another operation's \"in\" progress."}}), 409)),
            "Azure refuses to read workspaces/logs (409 Conflict: Another operation's \"in\" progress).",
        ),
    ],
    ids=["secret", "server", "refusal"],
)  # fmt: skip
def test_the_reason_of_an_exception_is_found_in_what_each_ansible_core_returns(
    azure, monkeypatch, msg, logged, exception, text, problem
):
    stderr = TRACEBACK % (logged, exception + text)
    result = (
        {"module_stderr": stderr, "module_stdout": "", "msg": msg, "rc": 1}
        if msg
        else {"msg": "Task failed: Module failed: " + text}
    )
    if msg and not logged:
        result["exception"] = stderr
    monkeypatch.setattr(azure, "ask", lambda _arguments: {"failed": True, "changed": False, **result})
    expected = problem % ("" if msg else "Task failed: Module failed: ") if "%" in problem else problem
    assert role(azure).problem().startswith(expected)


@pytest.mark.parametrize("function", ["deploy", "remove"])
@pytest.mark.parametrize("code", ["SubscriptionNotFound", "InvalidResourceNamespace"])
def test_an_answer_404_that_is_not_about_the_resource_is_an_error(azure, code, function):
    azure.faults = [Fault("GET", "", 404, code, "Why.", times=99)]
    assert "(404 %s: Why)." % code in role(azure, VM).problem(function)
    assert azure.written() == []


def test_half_a_deployment_that_failed_is_completed_by_the_next_run(azure):
    azure.outcomes = {AMA: ("Failed", "The package manager is locked.")}
    assert role(azure, VM).problem() == (
        "the extension AzureMonitorLinuxAgent of web01: the provisioning failed. The package manager is locked. Remove the cause, and run this again."
    )
    assert role(azure, VM).summary(VM).startswith(
        "First failed check: AzureMonitorLinuxAgent. The provisioning of the extension AzureMonitorLinuxAgent on web01 is Failed."
        " The package manager is locked."
    )  # fmt: skip
    azure.outcomes = {}
    assert role(azure, VM).deploy() == [
        "the extension AzureMonitorLinuxAgent of web01", "the extension ChangeTracking-Linux of web01", "the association of web01",
    ]  # fmt: skip
    assert role(azure, VM).summary(VM) == "All checks passed."
    assert len(role(azure, VM).remove()) == 4  # what the first run made is known as made too


def test_an_extension_that_is_still_on_its_way_is_waited_for_and_not_sent_again(azure):
    role(azure, VM).deploy()
    azure.get(VM + AMA)["properties"]["provisioningState"] = "Updating"
    azure._pending[(VM + AMA).lower()] = 2
    written = len(azure.written())
    assert role(azure, VM).deploy() == [] and len(azure.written()) == written


def test_a_deallocated_machine_is_named_before_anything_is_written_to_it(azure):
    azure.get(VM)["properties"].update(STOPPED)
    problem = "The virtual machine web01 is deallocated. Extensions can be installed on a machine that runs only. Start it, and run this again."
    assert role(azure, VM).problem() == problem
    assert not [one for _method, one in azure.written() if one.startswith(VM)]
    azure.get(VM)["properties"].update(RUNNING)
    azure.faults = [
        Fault("PUT", AMA, 409, "OperationNotAllowed", "Cannot modify extensions in the VM when the VM is not running.")
    ]
    assert role(azure, VM).problem().endswith("Start it, and run this again.")


def test_another_rule_for_change_tracking_is_refused(azure):
    other = RULE.replace("ct-dcr", "theirs")
    azure.add(other, properties={"dataSources": {"extensions": [{"extensionName": "ChangeTracking-Linux"}]}})
    azure.add(VM + ASSOCIATION + "theirs", properties={"dataCollectionRuleId": other})
    assert "web01 is associated with another rule for change tracking (%s)" % other in role(azure, VM).problem()
    assert not [one for _method, one in azure.written() if one.startswith(VM)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"workspace": "logs"}, "azure_workspace is 'logs', which is not the id of a workspaces."),
        ({"rule": RULE.replace("/ops/", "/other/")}, "which is not in the resource group of the workspace"),
        ({"machines": ["web01"]}, "azure_machine is 'web01', which is not the id of a machine."),
        ({"policy_scope": "x"}, "azure_policy_scope is 'x'."),
        ({"policy_scope": SUBSCRIPTION, "agent": "own"}, "azure_policy_scope is set, and azure_agent is own: the policy initiatives install Microsoft's"),
        ({"policy_scope": SUBSCRIPTION, "agent": "without_ama"}, "azure_policy_scope is set, and azure_agent is without_ama"),
        ({"location": ""}, "does not exist. Correct azure_workspace, or set azure_location to the region to make it in."),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named_before_anything_is_written(azure, options, problem):
    assert problem in role(azure, **options).problem()
    assert azure.written() == []


@pytest.mark.parametrize(
    "other, name",
    [
        ({"azure_agent": "without_ama"}, "azure_agent"),
        ({"azure_dcr": "other.json"}, "azure_dcr"),
        ({"azure_rule": "/x"}, "azure_rule"),
    ],
)
def test_hosts_differ_in_nothing_that_is_made_once(other, name):
    one = {
        "azure_workspace": WORKSPACE,
        "azure_agent": "microsoft",
        "azure_dcr": "recommended",
        "azure_machine": "/a",
        "azure_identity": "system",
    }
    alike = {**one, "azure_machine": "/b", "azure_agent": "own", "azure_identity": "/own"}
    plan.refuse_different({})
    plan.refuse_different({"web01": one, "web02": alike})
    with pytest.raises(arm.ArmError, match=r"^%s of web02 is not that of web01, .* with ct_hosts[.]$" % name):
        plan.refuse_different({"web01": one, "web02": {**alike, **other}})
    with pytest.raises(arm.ArmError, match=r"^azure_identity of web02"):
        plan.refuse_different(
            {host: {**of, "azure_contents_account": "/c"} for host, of in (("web01", one), ("web02", alike))}
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"agent": "without_ama", "dcr": "recommended"}, "azure_dcr has no effect with azure_agent=without_ama: the agents track what agent_dcr"),
        ({"agent": "without_ama", "track": {"files": ["/etc"]}}, "azure_track has no effect with azure_agent=without_ama"),
        ({"senders": ["relay-1"]}, "azure_senders has no effect without azure_agent=without_ama."),
        ({"blob_endpoint": "https://x/"}, "azure_blob_endpoint has no effect without azure_contents_account."),
        ({"policy_parameters": {"effect": "Disabled"}}, "azure_policy_parameters has no effect without azure_policy_scope."),
    ],
)  # fmt: skip
def test_an_option_without_effect_is_a_warning(azure, options, sentence):
    (warning,) = role(azure, VM, **options).plan("preflight")["warnings"]
    assert warning.startswith(sentence)
    assert "warnings" not in role(azure, VM).plan("preflight")


# --- the checks


def broken(azure, change):
    role(azure, VM).deploy()
    change(azure)
    return role(azure, VM).summary(VM)


def set_(ident, **properties):
    return lambda azure: azure.get(ident)["properties"].update(properties)


@pytest.mark.parametrize(
    ("change", "summary"),
    [
        (lambda azure: azure.resources.pop(WORKSPACE.lower()), "workspace. The workspace logs does not exist."),
        (lambda azure: azure.get(VM).pop("identity"), "identity. web01 has no system-assigned identity, so AMA cannot sign in. Run the playbook"),
        (lambda azure: azure.resources.pop((VM + AMA).lower()), "AzureMonitorLinuxAgent. web01 does not have the extension"),
        (set_(VM + CT, provisioningState="Updating"), "ChangeTracking-Linux. The extension ChangeTracking-Linux on web01 is still Updating."),
        (lambda azure: azure.resources.pop((VM + ASSOCIATION + "ct-inventory").lower()), "association. web01 is not associated with the rule"),
        (set_(VM, **STOPPED), "machine. The virtual machine web01 is deallocated. Start it, and run this again."),
        (set_(RULE, dataFlows=[]), "rule. The rule ct-dcr does not send the stream Microsoft-ConfigurationChangeV2"),
        (
            set_(VM + AMA, settings={"authentication": {"managedIdentity": {"identifier-name": "mi_res_id", "identifier-value": IDENTITY}}}),
            "AzureMonitorLinuxAgent. The extension AzureMonitorLinuxAgent on web01 signs in with the identity monitoring, which the machine does",
        ),
        (set_(RULE, destinations={"logAnalytics": []}), "rule. The rule ct-dcr does not send to the workspace logs."),
    ],
)  # fmt: skip
def test_the_first_check_that_fails_is_named_with_its_remedy(azure, change, summary):
    assert broken(azure, change).startswith("First failed check: " + summary)


def test_a_typo_in_the_rule_in_azure_is_found(azure):
    def misspell(azure):
        settings = azure.get(RULE)["properties"]["dataSources"]["extensions"][0]["extensionSettings"]
        settings["serviceSettings"] = settings.pop("servicesSettings")

    assert "rule. ct-dcr:CTDataSource-Linux: extensionSettings.serviceSettings is not a key" in broken(azure, misspell)


@pytest.mark.parametrize(
    ("seen", "summary"),
    [
        ("", "Checks passed, with 1 warning: host."),
        (SEEN, "All checks passed."),
        (SEEN.replace("ama=active", "ama=failed"), "First failed check: AMA. The service azuremonitoragent is failed."),
        (SEEN.replace("chunks=1", "chunks=0"), "First failed check: chunk. AMA has no rule for ChangeTracking-Linux in"),
        (SEEN.replace("rule=1", "rule=0"), "First failed check: chunk. AMA has another rule for ChangeTracking-Linux than ct-dcr."),
        (SEEN.replace("data_socket=1", "data_socket=0"), "First failed check: sockets. AMA does not listen at its data socket."),
        (SEEN.replace("cxp=active", "cxp="), "First failed check: agent. The service cxp is not installed."),
        (SEEN.replace("ama=active", "ama=\x1b[31m" + "x" * 9999), "First failed check: AMA. The service azuremonitoragent is \\x1b[31m"),
    ],
)  # fmt: skip
def test_the_host_is_checked_from_ama_to_the_sockets(azure, seen, summary):
    deployed = role(azure, VM)
    deployed.deploy()
    found = deployed.summary(VM, {"seen": seen})
    assert found.startswith(summary) and len(found) < 300


# --- policies

INITIATIVE = "/providers/Microsoft.Authorization/policySetDefinitions/92a36f05-ebc9-4bba-9128-b47ad2ea3354"
DEFINITION = "/providers/Microsoft.Authorization/policyDefinitions/"
CONTRIBUTOR = "/providers/Microsoft.Authorization/roleDefinitions/9980e02c-c2be-4d73-94e8-173b1dc7cf3c"


def with_initiative(azure):
    members = [
        {"policyDefinitionId": DEFINITION + name, "policyDefinitionReferenceId": name} for name in ("ama", "audit")
    ]
    azure.add(INITIATIVE, properties={"policyDefinitions": members})
    azure.add(
        DEFINITION + "ama",
        properties={"policyRule": {"then": {"effect": "x", "details": {"roleDefinitionIds": [CONTRIBUTOR]}}}},
    )
    azure.add(DEFINITION + "audit", properties={"policyRule": {"then": {"effect": "audit"}}})
    return azure


def test_an_initiative_is_assigned_with_its_rights_and_applied_to_what_exists(azure):
    with_initiative(azure)
    options = {
        "policy_scope": SUBSCRIPTION,
        "policy_kinds": ["vm"],
        "policy_parameters": {"effect": "DeployIfNotExists"},
    }
    checked = role(azure, **options).deploy(check=True)
    assert azure.written() == []
    changed = role(azure, **options).deploy()
    assert changed == checked and len(changed) == 6
    (assignment,) = azure.bodies("/policyAssignments/ct-inventory-vm$")
    assert assignment["properties"]["parameters"] == {
        "dcrResourceId": {"value": RULE},
        "effect": {"value": "DeployIfNotExists"},
    }
    (right,) = azure.bodies("/roleAssignments/")
    made = azure.get(SUBSCRIPTION + "/providers/Microsoft.Authorization/policyAssignments/ct-inventory-vm")
    assert right["properties"]["principalId"] == made["identity"]["principalId"]
    (remediation,) = azure.bodies("/remediations/")
    assert remediation["properties"]["policyDefinitionReferenceId"] == "ama"
    assert role(azure, **options).deploy() == []
    assert len(role(azure, **options).remove()) == 3
    assert role(azure, **options).remove() == []


def test_a_management_group_needs_rights_where_the_workspace_is_too(azure):
    scope = "/providers/Microsoft.Management/managementGroups/all"
    role(with_initiative(azure), policy_scope=scope, policy_kinds=["vm"]).deploy()
    scopes = {
        ident.partition("/providers/Microsoft.Authorization/")[0]
        for method, ident in azure.written()
        if "/roleAssignments/" in ident
    }
    assert scopes == {scope, GROUP}
    (remediation,) = azure.bodies("/remediations/")
    assert "resourceDiscoveryMode" not in remediation["properties"]


def test_an_initiative_that_a_cloud_does_not_have_is_named(azure):
    assert (
        "does not exist in this cloud. Remove it from azure_policy_kinds."
        in role(azure, policy_scope=SUBSCRIPTION).problem()
    )


def test_no_request_has_a_body_that_is_no_json(azure):
    role(azure, VM, VMSS, ARC).deploy()
    assert all(json.loads(json.dumps(body)) == body for _method, _ident, body in azure.requests)


# --- without AMA


def test_without_ama_tables_rule_functions_and_rights_are_made_and_removed(azure):
    options = {"agent": "without_ama", "senders": ["relay-1"]}
    changed = role(azure, VM, ARC, **options).deploy()
    assert changed == [
        "the workspace logs", "the table CTConfigurationChange_CL", "the table CTConfigurationData_CL", "the table CTOtherRecords_CL",
        "the rule ct-direct", "the function CTConfigurationChange", "the function CTConfigurationData",
        "the role Monitoring Metrics Publisher on ct-direct", "the identity of web01", "the role Monitoring Metrics Publisher on ct-direct",
        "the role Monitoring Metrics Publisher on ct-direct",
    ]  # fmt: skip
    assert not azure.bodies("/extensions/|/solutions/|Associations/")
    assert role(azure, VM, ARC, **options).deploy() == []
    agent = {"agent": {"doctor": {"Ok": True, "Summary": "All checks passed."}}}
    assert [role(azure, **options).summary(one, agent) for one in (VM, ARC)] == ["All checks passed."] * 2
    assert (
        role(azure, **options)
        .plan("look")["send_to"]
        .startswith("Send records to azure:https://ct-direct-x1.westeurope-1.ingest.monitor.azure.com/dcr-")
    )
    assert "role. front has no" not in role(azure, **options).summary(VMSS)
    assert (
        role(azure, **options)
        .summary(VMSS)
        .startswith("First failed check: identity. front has no system-assigned identity, so it cannot")
    )
    removed = role(azure, VM, ARC, **options)
    assert len(removed.remove(check=True)) == len(removed.remove()) == 6
    assert role(azure, VM, ARC, remove_data=True, **options).remove() == [
        "the table " + one for one in ("CTConfigurationChange_CL", "CTConfigurationData_CL", "CTOtherRecords_CL")
    ]


def test_without_ama_a_missing_right_is_found(azure):
    role(azure, VM, agent="without_ama").deploy()
    for ident in [one for one in azure.resources if "/roleassignments/" in one]:
        del azure.resources[ident]
    summary = role(azure, agent="without_ama").summary(VM)
    assert summary.startswith(
        "First failed check: role. web01 does not have the role Monitoring Metrics Publisher on the rule ct-direct."
    )
