# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A DCR in any form, as one Settings."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti import dcr
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import DcrError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.model import File, FileRule

SETTINGS = {
    "enableFiles": True,
    "enableSoftware": True,
    "enableRegistry": False,
    "enableServices": True,
    "enableInventory": True,
    "fileSettings": {
        "fileCollectionFrequency": 900,
        "fileInfo": [
            {
                "name": "ChangeTrackingLinuxPath_default",
                "enabled": True,
                "destinationPath": "/etc/.*.conf",
                "useSudo": True,
                "recurse": True,
                "maxContentsReturnable": 5000000,
                "pathType": "File",
                "type": "File",
                "links": "Follow",
                "maxOutputSize": 500000,
                "groupTag": "Recommended",
            },
            {
                "name": "app",
                "description": "made in the portal",
                "enabled": True,
                "destinationPath": "/opt/app/*.ini",
                "recurse": False,
                "links": "Manage",
                "checksum": "Sha256",
                "uploadContent": True,
                "maxContentsReturnable": 0,
                "groupTag": "Custom",
            },
            {"name": "off", "enabled": False, "destinationPath": "/srv/*"},
        ],
    },
    "softwareSettings": {"softwareCollectionFrequency": 300},
    "servicesSettings": {"serviceCollectionFrequency": 300},
    "inventorySettings": {"inventoryCollectionFrequency": 36000},
}
WINDOWS = {
    "name": "CTDataSource-Windows",
    "extensionName": "ChangeTracking-Windows",
    "extensionSettings": {"registrySettings": {}},
}
RULES = [
    FileRule("ChangeTrackingLinuxPath_default", "/etc/.*.conf"),
    FileRule("app", "/opt/app/*.ini", recurse=False, links="manage", contents=True),
]


def arm(settings):
    source = {
        "name": "CTDataSource-Linux",
        "extensionName": "ChangeTracking-Linux",
        "streams": [],
        "extensionSettings": settings,
    }
    return {
        "type": "Microsoft.Insights/dataCollectionRules",
        "properties": {"dataSources": {"extensions": [WINDOWS, source]}},
    }


def tagged(*settings):
    elements = [
        {"id": "dcr-%d:CTDataSource-Linux" % number, "extensionSettings": one} for number, one in enumerate(settings)
    ]
    return {
        "schemaVersion": 1,
        "version": "",
        "extensionName": "ChangeTracking-Linux",
        "extensionConfigurations": elements,
    }


def chunk(*settings):
    configurations = {
        "ChangeTracking-Windows": [],
        "ChangeTracking-Linux": tagged(*settings)["extensionConfigurations"],
    }
    return {"dataSources": [], "channels": [], "extensionConfigurations": configurations}


def changed(edit):
    settings = copy.deepcopy(SETTINGS)
    edit(settings)
    return settings


@pytest.mark.parametrize(
    "document",
    [
        arm(SETTINGS),
        arm(SETTINGS)["properties"],
        {"$schema": "template", "resources": [{"type": "other"}, arm(SETTINGS)]},
        chunk(SETTINGS),
        tagged(SETTINGS),
    ],
    ids=["arm", "az show", "template", "chunk", "tagged data"],
)
def test_every_form_gives_the_same_settings(document):
    settings = dcr.loads(json.dumps(document), "x")
    assert settings[:8] == (("packages", "services", "files"), RULES, 900, 300, 300, True, 36000, [])


def test_the_default_is_azures_template():
    settings = dcr.default()
    assert settings.file_rules == RULES[:1]
    assert settings._replace(file_rules=RULES)[:8] == dcr.load(arm(SETTINGS), "x")[:8]


def test_limits_of_contents_are_the_rules_and_0_or_less_is_none():
    def edit(settings):
        settings["fileSettings"]["fileInfo"][0].update(uploadContent=True)
        settings["fileSettings"]["fileInfo"][1].update(maxOutputSize=-1)

    rules = dcr.load(arm(changed(edit)), "x").file_rules
    assert [rule[6:] for rule in rules] == [(True, 5000000, 500000), (True, 0, 0)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_rules_that_differ_by_contents_alone_track_one_item_and_keep_its_text(order):
    one = changed(lambda s: s["fileSettings"]["fileInfo"][1].update(uploadContent=False))
    both = [(one, SETTINGS)[number] for number in order]
    assert dcr.load(tagged(*both), "x").file_rules == RULES


def test_what_is_switched_off_is_not_collected():
    settings = dcr.load(arm(changed(lambda s: s.update(enableSoftware=False, enableFiles=False))), "x")
    assert (settings.kinds, settings.file_rules) == (("services",), [])


def test_several_rules_are_merged():
    def other(settings):
        settings["fileSettings"]["fileInfo"][1]["destinationPath"] = "/opt/other/*.ini"
        settings["softwareSettings"]["softwareCollectionFrequency"] = 60

    settings = dcr.load(chunk(SETTINGS, changed(other)), "x")
    assert [rule.path for rule in settings.file_rules] == ["/etc/.*.conf", "/opt/app/*.ini", "/opt/other/*.ini"]
    assert settings.packages_every == 60


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda s: s.update(serviceSettings={}), "serviceSettings is not a key of the DCR format and is ignored (did you mean servicesSettings?)"),
        (lambda s: s["fileSettings"].update(fileinfo=[]), "fileSettings.fileinfo is not a key of the DCR format and is ignored (did you mean fileInfo?)"),
        (lambda s: s["fileSettings"]["fileInfo"][0].update(zzz=1), "fileInfo[0].zzz is not a key of the DCR format and is ignored."),
    ],
)  # fmt: skip
def test_a_key_that_means_nothing_is_named(edit, words):
    warnings = dcr.load(arm(changed(edit)), "x").warnings
    assert len(warnings) == 1
    assert words in warnings[0]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "is not JSON"),
        (b"\xff", "is not JSON"),
        ("[]", "is a list; give the rule's JSON object"),
        ("[" * 100000, "is not JSON"),
        (" " * (5 << 20), "is larger than"),
        ({}, "has no settings for the extension ChangeTracking-Linux"),
        ({"properties": {"dataSources": {"extensions": [WINDOWS]}}}, "has no settings for the extension"),
        ({"properties": {"dataSources": {"extensions": "x"}}}, "dataSources.extensions is not a list of objects"),
        ({"properties": 1}, "has no settings"),
        (chunk(None), "is a NoneType, not an object"),
        (arm([]), "is a list, not an object"),
        (arm(changed(lambda s: s.update(enableFiles="yes"))), 'enableFiles is "yes", not a bool'),
        (arm(changed(lambda s: s["fileSettings"].update(fileCollectionFrequency=True))), "is true, not a int"),
        (
            arm(changed(lambda s: s["fileSettings"].update(fileCollectionFrequency=0))),
            "give a number of seconds above 0",
        ),
        (arm(changed(lambda s: s["fileSettings"].update(fileInfo={}))), "is a dict, not a list"),
        (arm(changed(lambda s: s["fileSettings"]["fileInfo"][0].pop("destinationPath"))), "has no destinationPath"),
        (
            arm(changed(lambda s: s["fileSettings"]["fileInfo"][0].update(links="Sideways"))),
            "use one of follow, manage, ignore",
        ),
        (
            arm(changed(lambda s: s["fileSettings"]["fileInfo"][0].update(destinationPath="/etc/(.*.conf"))),
            "/etc/(.*.conf",
        ),
        (
            arm(changed(lambda s: s["fileSettings"]["fileInfo"][0].update(destinationPath="/etc/(a+)+.*"))),
            "/etc/(a+)+.*",
        ),
        (
            arm(changed(lambda s: s["fileSettings"]["fileInfo"][0].update(destinationPath="etc/x"))),
            "is not an absolute path",
        ),
    ],
)
def test_a_rule_that_cannot_be_used_gets_one_sentence(document, words):
    with pytest.raises(DcrError) as caught:
        dcr.loads(document if isinstance(document, (str, bytes)) else json.dumps(document), "x")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["extensionSettings", "ChangeTracking-Linux"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["properties", "dataSources", "extensions", "extensionConfigurations", "resources", "ChangeTracking-Linux",
                         "extensionName", "extensionSettings", "fileSettings", "fileInfo", "enableFiles", "links"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_any_json_is_either_settings_or_a_dcr_error(document):
    try:
        assert isinstance(dcr.load(document, "x"), dcr.Settings)
    except DcrError:
        pass


@pytest.mark.parametrize(
    ("rule", "path", "expected"),
    [
        (FileRule("r", "/etc/.*.conf"), "/etc/apt/a.conf", True),
        (FileRule("r", "/etc/.*.conf", recurse=False), "/etc/apt/a.conf", False),
        (FileRule("r", "/etc/.*.conf"), "/etc2/a.conf", False),
        (FileRule("r", "/etc/*.conf"), "/etc/a.ini", False),
        (FileRule("r", "/etc/ssh"), "/etc/ssh/sshd_config", True),
        (FileRule("r", "/etc/hosts"), "/etc/hosts", True),
        (FileRule("r", "/etc/hosts"), "/etc/hosts.allow", False),
        (FileRule("r", "/.*"), "/a", True),
        (FileRule("r", "/etc/*", type="directory"), "/etc/a", False),
        (FileRule("r", "/etc/*", type="any"), "/etc/a", True),
    ],
)
def test_a_rule_reaches_what_it_would_collect(rule, path, expected):
    item = File(path, "", 1, "", "", 0, 1, 1, "file", "")
    assert dcr.in_scope([list(rule)], item) is expected


def test_the_tags_of_several_rules_are_those_of_each_in_the_order_of_their_ids():
    elements = [
        {
            "id": "dcr-2:CT",
            "extensionSettings": {},
            "outputStreams": {dcr.CHANGE_STREAM: "two", dcr.DATA_STREAM: "data"},
        },
        {
            "id": "dcr-1:CT",
            "extensionSettings": {},
            "outputStreams": {dcr.CHANGE_STREAM: "one", dcr.DATA_STREAM: "data"},
        },
    ]
    settings = dcr.load({"extensionConfigurations": {dcr.EXTENSION: elements}}, "here")
    assert settings.rules == ("dcr-1:CT", "dcr-2:CT")
    assert settings.streams == {dcr.CHANGE_STREAM: ("one", "two"), dcr.DATA_STREAM: ("data",)}


@pytest.mark.parametrize("streams", [[], {"CONFIG_CHANGE_BLOB_V2": 1}, "x"])
def test_output_streams_of_the_wrong_form_are_refused(streams):
    element = {"id": "dcr-1:CT", "extensionSettings": {}, "outputStreams": streams}
    with pytest.raises(DcrError, match="outputStreams"):
        dcr.load({"extensionConfigurations": {dcr.EXTENSION: [element]}}, "here")
