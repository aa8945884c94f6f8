# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A DCR in any form, as one Settings."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.module_utils._cti.errors import DcrError
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.kind import File
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.kinds.files.scope import (
    FileRule,
    in_scope,
    reaches,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule import (
    dcr,
    file_items,
    forms,
    reading,
    recommended,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.hold import hold
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.rule.settings import (
    CHANGE_STREAM,
    DATA_STREAM,
    EXTENSION,
    Settings,
    default,
)
from ansible_collections.changetracking.inventory.plugins.module_utils._cti.text import printable

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


def arm(settings, **resource):
    source = {
        "name": "CTDataSource-Linux",
        "extensionName": "ChangeTracking-Linux",
        "streams": [],
        "extensionSettings": settings,
    }
    return {
        "type": "Microsoft.Insights/dataCollectionRules",
        "properties": {"dataSources": {"extensions": [WINDOWS, source]}},
        **resource,
    }


def deployment(resources):
    """A nested template, as Microsoft's sample CtDcrCreation.json has it."""
    template = {"resources": resources}
    return {"type": "Microsoft.Resources/deployments", "name": "d", "properties": {"template": template}}


def policy(resource):
    template = {"resources": [deployment([resource])]}
    details = {"deployment": {"properties": {"template": template}}}
    return {"properties": {"policyRule": {"if": {}, "then": {"effect": "deployIfNotExists", "details": details}}}}


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


FORMS = {
    "arm": arm(SETTINGS),
    "az show": arm(SETTINGS)["properties"],
    "az list": [{"properties": {"dataSources": {"performanceCounters": []}}}, arm(SETTINGS)["properties"]],
    "rest list": {"value": [{"properties": {}}, arm(SETTINGS)], "nextLink": None},
    "template": {"$schema": "template", "resources": [{"type": "other"}, arm(SETTINGS)]},
    "nested template": {"resources": [deployment([]), deployment([arm(SETTINGS)])]},
    "bicep": {"languageVersion": "2.0", "resources": {"other": {"type": "other"}, "dcr": arm(SETTINGS)}},
    "bicep module": {"languageVersion": "2.0", "resources": {"m": deployment({"dcr": arm(SETTINGS)})}},
    "modules in modules": deployment([deployment({"m": deployment([arm(SETTINGS)])})]),
    "policy": policy(arm(SETTINGS)),
    "chunk": chunk(SETTINGS),
    "tagged data": tagged(SETTINGS),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_gives_the_same_settings(form):
    settings = dcr.loads(json.dumps(FORMS[form]), "x")
    intervals = {"packages": 300, "services": 300, "files": 900}
    assert settings[:6] == (("packages", "services", "files"), RULES, intervals, True, 36000, [])


@pytest.mark.parametrize(
    ("named", "more"),
    [
        (["Microsoft-ConfigurationChangeV2"], []),
        (
            ["Microsoft-ConfigurationChange", "Microsoft-ConfigurationChangeV2", "Microsoft-ConfigurationData"],
            ["CONFIG_CHANGE_BLOB"],
        ),
        (["Microsoft-Other", 7, {}], []),
        ("Microsoft-ConfigurationChange", []),
        (None, []),
    ],
)
def test_a_chunk_has_the_streams_that_the_rule_names_and_those_that_agents_need(named, more):
    rule = arm(SETTINGS, name="ct")
    rule["properties"]["dataSources"]["extensions"][1]["streams"] = named
    (element,) = forms.as_chunk(rule, "x", "", (CHANGE_STREAM, DATA_STREAM))["extensionConfigurations"][EXTENSION]
    streams = [*more, CHANGE_STREAM, DATA_STREAM]
    assert element["outputStreams"] == {stream: "ct:CTDataSource-Linux:" + stream for stream in streams}


def test_several_rules_in_one_document_are_merged_and_named_by_their_resources():
    other = {"fileSettings": {"fileCollectionFrequency": 60, "fileInfo": [{"destinationPath": "/srv/x"}]}}
    document = {"value": [arm(SETTINGS, name="ct"), arm(other, name="[parameters('n')]"), arm(other, name="Other")]}
    settings = dcr.load(document, "x")
    assert settings.rules == ("CTDataSource-Linux", "Other:CTDataSource-Linux", "ct:CTDataSource-Linux")
    assert (settings.every("files"), settings.file_rules[0].path) == (60, "/srv/x")


def test_a_document_may_be_nested_deeper_than_python_recurses():
    document = arm(SETTINGS)
    for _level in range(20000):
        document = {"properties": document}
    assert dcr.load(document, "x").file_rules == RULES


@pytest.mark.parametrize("settings", [None, {"extensionSettings": None}])
def test_settings_that_az_left_out_are_asked_for_by_the_command_that_prints_them(settings):
    resource = arm(None, id="/subscriptions/1/resourceGroups/g/providers/Microsoft.Insights/dataCollectionRules/ct")
    if settings is None:
        del resource["properties"]["dataSources"]["extensions"][1]["extensionSettings"]
    for document in (resource, resource["properties"], [resource], {"resources": [resource]}):
        with pytest.raises(DcrError) as caught:
            dcr.load(document, "dcr.json")
        assert "az rest --method get --url " in str(caught.value)
    with pytest.raises(DcrError, match=r"/dataCollectionRules/ct\?api-version=2022-06-01"):
        dcr.load(resource, "dcr.json")


@pytest.mark.parametrize(
    "hostile", ['/subscriptions/1"; rm -rf /; "', "/subscriptions/$(reboot)", ["/subscriptions/1"], "x" * 5000]
)
def test_no_command_is_made_of_an_id_that_is_none(hostile):
    with pytest.raises(DcrError, match="/subscriptions/SUBSCRIPTION/"):
        dcr.load(arm(None, id=hostile), "x")


@pytest.mark.parametrize(
    "document",
    [
        arm("[parameters('settings')]"),
        arm({"fileSettings": "[variables('files')]"}),
        arm({"fileSettings": {"fileInfo": "[parameters('settings')]"}}),
        {"properties": {"dataSources": "[parameters('settings')]"}},
        {"properties": {"dataSources": {"extensions": "[parameters('settings')]"}}},
        {"resources": [{"properties": "[parameters('settings')]"}]},
    ],
)
def test_what_only_azure_can_evaluate_is_named(document):
    with pytest.raises(DcrError, match=r"is the template expression \"\[(parameters|variables)\('.*az rest"):
        dcr.load(document, "x")


def test_the_default_is_azures_template():
    settings = default()
    assert settings.file_rules == RULES[:1]
    assert settings._replace(file_rules=RULES)[:6] == dcr.load(arm(SETTINGS), "x")[:6]


def test_limits_of_contents_are_the_rules_and_0_or_less_is_none():
    def edit(settings):
        settings["fileSettings"]["fileInfo"][0].update(uploadContent=True)
        settings["fileSettings"]["fileInfo"][1].update(maxOutputSize=-1)

    rules = dcr.load(arm(changed(edit)), "x").file_rules
    assert [rule[6:9] for rule in rules] == [(True, 5000000, 500000), (True, 0, 0)]


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
    assert settings.every("packages") == 60


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda s: s.update(serviceSettings={}), "serviceSettings is not a key of the DCR format and is ignored (did you mean servicesSettings?)"),
        (lambda s: s["fileSettings"].update(fileinfo=[]), "fileSettings.fileinfo is not a key of the DCR format and is ignored (did you mean fileInfo?)"),
        (lambda s: s["fileSettings"]["fileInfo"][0].update(zzz=1),
         "fileInfo[0] (\"ChangeTrackingLinuxPath_default\").zzz is not a key of the DCR format and is ignored."),
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
        ("[]", "has no settings for the extension"),
        ("5", "is 5. Give the JSON object of the rule"),
        ('"x"', "Give the JSON object of the rule"),
        ("[" * 100000, "is not JSON"),
        (" " * (5 << 20), "is larger than"),
        ({}, "has no settings for the extension ChangeTracking-Linux"),
        ({"properties": {"dataSources": {"extensions": [WINDOWS]}}}, "has no settings for the extension"),
        ({"properties": {"dataSources": {"extensions": "x"}}}, "dataSources.extensions is not a list of objects"),
        ({"properties": 1}, "has no settings"),
        (chunk(None), "extensionSettings is missing or null"),
        (arm([]), "is a list, not an object"),
        (arm(changed(lambda s: s.update(softwareSettings=5))), "softwareSettings is 5, not an object"),
        (arm(changed(lambda s: s["fileSettings"].update(fileInfo={}))), "is an object, not a list"),
        ('{"properties": %s}' % ("9" * 100000), "is not JSON"),
    ],
)
def test_a_rule_that_cannot_be_used_gets_one_sentence(document, words):
    with pytest.raises(DcrError) as caught:
        dcr.loads(document if isinstance(document, (str, bytes)) else json.dumps(document), "x")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"destinationPath": "etc/x"}, "is not an absolute path"),
        ({"destinationPath": ""}, 'destinationPath is ""'),
        ({"destinationPath": "  \t"}, 'destinationPath is "  \\t"'),
        ({"destinationPath": None}, "destinationPath is null"),
        ({"destinationPath": 5}, "destinationPath is 5"),
        ({"destinationPath": ["/etc/x"]}, "destinationPath is a list"),
        ({"destinationPath": "/etc/(.*.conf"}, "/etc/(.*.conf"),
        ({"destinationPath": "/etc/(a+)+.*"}, "/etc/(a+)+.*"),
        ({"destinationPath": "/etc/\0"}, "NUL"),
        ({"destinationPath": "/etc/\ud800"}, "surrogate"),
        ({"destinationPath": "/x/../y"}, '".."'),
        ({"destinationPath": "/etc/" + "(a|b)" * 500000}, "longer than"),
        ({"destinationPath": "[concat('/etc/', 'x')]"}, "template expression"),
        ({"links": "Sideways"}, 'links is "Sideways". Use one of follow, manage, ignore'),
        ({"links": 5}, "links is 5"),
        ({"type": "Socket"}, 'type is "Socket"'),
        ({"checksum": "crc32"}, 'checksum is "crc32"'),
        ({"recurse": "yes"}, 'recurse is "yes". Give true or false'),
        ({"enabled": "true"}, 'enabled is "true"'),
        ({"name": {}}, "name is an object"),
        ({"uploadContent": 1}, "uploadContent is 1"),
        ({"uploadContent": True, "maxOutputSize": "x"}, 'maxOutputSize is "x"'),
    ],
)
def test_a_file_item_that_cannot_be_used_is_left_out_and_named_and_the_rest_holds(change, words):
    settings = dcr.load(arm(changed(lambda s: s["fileSettings"]["fileInfo"][0].update(change))), "x")
    assert (settings.kinds, settings.file_rules) == (("packages", "services", "files"), RULES[1:])
    (warning,) = settings.warnings
    assert words in warning and "fileInfo[0]" in warning and "is left out" in warning
    assert len(warning) < 600 and warning.isprintable()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fileSettings": {"fileinfo": [{"destinationPath": "/etc/x"}]}}, 'fileSettings has the unknown key "fileinfo" instead of fileInfo.'),
        ({"fileSettings": {"fileInfo": None, "FileInfos": [{}]}}, 'fileSettings has the unknown key "FileInfos" instead of fileInfo.'),
        ({"filesSettings": {"fileInfo": [{}]}}, 'extensionSettings has the unknown key "filesSettings" instead of fileSettings.'),
        ({"fileInfo": [{"destinationPath": "/etc/x"}]}, 'extensionSettings has the unknown key "fileInfo" instead of fileSettings.'),
        ({"fileSettings": {"fileInfo": [{"name": "a", "destinationPath": "etc"}]}}, """fileInfo can be used: destinationPath 'etc' is not an absolute path"""),
        ({"fileSettings": {"fileInfo": [{"destinationPath": "/etc/**/*.conf"}, {"destinationPath": "x"}]}},
         "fileInfo can be used: destinationPath '/etc/**/*.conf' has a wildcard"),
        ({"fileSettings": {"fileInfo": [{}, {"enabled": False, "destinationPath": "/x"}]}},
         "No file item in fileSettings.fileInfo can be used: destinationPath is null. Give an absolute path."),
    ],
)  # fmt: skip
def test_file_items_of_which_none_can_be_used_are_an_error_of_a_rule_that_somebody_gives(settings, words):
    document = tagged(settings)
    with pytest.raises(DcrError) as caught:
        dcr.given(document, "x")
    assert str(caught.value).startswith("dcr-0:CTDataSource-Linux: ") and words in str(caught.value)
    assert str(caught.value).endswith(" Correct the rule, or set enableFiles to false to track no files.")
    read = dcr.load(document, "x")
    assert read.kinds == ("packages", "services", "files") and list(read.errors) == ["files"]
    assert read.errors["files"] in read.warnings[0] and read.problems[0] == read.errors["files"]
    off = dcr.given(tagged(dict(settings, enableFiles=False)), "x")
    assert off.kinds == ("packages", "services") and not off.errors


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"enableFiles": True, "fileSettings": {"fileCollectionFrequency": 60, "uploadSetting": {"blobEndpoint": "x"}}},
        {"fileSettings": {"fileInfo": [], "fileinfo": [{}]}},
        {"fileSettings": {"fileInfo": [{"enabled": False, "destinationPath": "x/y"}], "someNewKey": [{"a": 1}]}},
        {"fileSettings": {"fileinfo": []}},
        {"serviceSettings": {"serviceCollectionFrequency": 5}, "registrySettings": {"registryInfo": [{}]}, "newSettings": {"info": [1]}},
        {"fileSettings": {"fileInfo": [{"destinationPath": "x"}, {"destinationPath": "/x"}]}},
    ],
)  # fmt: skip
def test_no_file_items_disabled_ones_and_unknown_keys_beside_them_are_no_error(settings):
    assert not dcr.given(tagged(settings), "x").errors


def test_an_error_in_one_of_several_rules_is_one_of_the_whole_document():
    broken = changed(lambda s: s["fileSettings"].update(fileinfo=s["fileSettings"].pop("fileInfo")))
    settings = dcr.load(tagged(SETTINGS, broken), "x")
    assert settings.file_rules == RULES and settings.errors["files"].startswith("dcr-1:CTDataSource-Linux: ")


@pytest.mark.parametrize("form", list(FORMS))
def test_azures_template_is_accepted_when_somebody_gives_it(form):
    assert dcr.given(FORMS[form], "x") == dcr.load(FORMS[form], "x")


def test_what_less_is_tracked_than_the_rule_says_is_a_problem_and_nothing_else_is():
    def edit(settings):
        settings["fileSettings"]["fileInfo"][0]["links"] = "x"
        settings["fileSettings"]["fileInfo"][1]["destinationPath"] = " /opt/x"
        settings.update(serviceSettings={}, enableInventory=5)

    settings = dcr.given(arm(changed(edit)), "x")
    (problem,) = settings.problems
    assert "fileInfo[0]" in problem and len(settings.warnings) == 4


def test_a_rule_with_an_error_holds_on_to_the_last_good_file_items_and_nothing_else_of_the_last_rule():
    broken = changed(lambda s: s["fileSettings"].update(fileInfo=[{}], fileCollectionFrequency=5))
    broken["softwareSettings"]["softwareCollectionFrequency"] = 7
    last = dcr.load(tagged(SETTINGS), "x")
    held = hold(dcr.load(tagged(broken), "x"), last)
    assert (held.kinds, held.file_rules) == (last.kinds, RULES)
    assert held.intervals == {"packages": 7, "services": 300, "files": 900}
    assert held.warnings[1] == "Until then, 2 file items are used, from the last good rule." and held.problems
    off = dcr.load(tagged(dict(SETTINGS, enableFiles=False)), "x")
    assert hold(dcr.load(tagged(broken), "x"), off).kinds == ("packages", "services")


@pytest.mark.parametrize("item", [None, "x", 5, ["/etc/x"], {}])
def test_a_file_item_that_is_none_is_left_out_and_named(item):
    settings = dcr.load(arm(changed(lambda s: s["fileSettings"]["fileInfo"].insert(0, item))), "x")
    assert settings.file_rules == RULES and len(settings.warnings) == 1


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda s: s["fileSettings"].update(fileCollectionFrequency=0), "fileSettings.fileCollectionFrequency is 0. Give a whole number of seconds"),
        (lambda s: s["fileSettings"].update(fileCollectionFrequency=True), "is true. Give a whole number of seconds"),
        (lambda s: s["fileSettings"].update(fileCollectionFrequency=10**20), "Until then, 900 is used."),
        (lambda s: s["softwareSettings"].update(softwareCollectionFrequency="300"), 'is "300"'),
        (lambda s: s["inventorySettings"].update(inventoryCollectionFrequency="[parameters('f')]"), "template expression"),
        (lambda s: s.update(enableFiles="yes"), 'enableFiles is "yes". Give true or false. Until then, true is used.'),
        (lambda s: s.update(enableInventory=0), "enableInventory is 0"),
    ],
)  # fmt: skip
def test_a_switch_or_frequency_that_cannot_be_used_counts_as_absent_and_is_named(edit, words):
    settings = dcr.load(arm(changed(edit)), "x")
    intervals = {"packages": 300, "services": 300, "files": 900}
    assert settings[:5] == (("packages", "services", "files"), RULES, intervals, True, 36000)
    assert len(settings.warnings) == 1 and words in settings.warnings[0]


def test_null_is_as_good_as_absent():
    item = dict.fromkeys(file_items.ITEM_KEYS, None)
    item["destinationPath"] = "/etc/x"
    settings = dict.fromkeys(dcr.setting_keys(), None)
    settings["fileSettings"] = {"fileCollectionFrequency": None, "fileInfo": [item], "uploadSetting": None}
    assert dcr.load(arm(settings), "x") == dcr.load(
        arm({"fileSettings": {"fileInfo": [{"destinationPath": "/etc/x"}]}}), "x"
    )


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("/x/", "/x"), ("//x", "/x"), ("/x/./y", "/x/y"), ("/x//y/.", "/x/y"), ("/./x/*.conf", "/x/*.conf"),
        ("/etc//.*.conf/", "/etc/.*.conf"), ("/", "/"), ("//", "/"), ("/.", "/"),
    ],
)  # fmt: skip
def test_a_path_is_made_normal_where_the_rule_is_read(written, normal):
    (rule,) = dcr.load(arm({"fileSettings": {"fileInfo": [{"name": "a", "destinationPath": written}]}}), "x").file_rules
    assert rule == FileRule("a", normal)


@pytest.mark.parametrize("written", [" /etc/.*.conf", "/etc/.*.conf ", "\n\t/etc/.*.conf\u00a0"])
def test_blanks_around_a_path_are_not_part_of_it_and_that_is_said(written):
    settings = dcr.load(arm({"fileSettings": {"fileInfo": [{"destinationPath": written}]}}), "x")
    assert settings.file_rules == [FileRule("/etc/.*.conf", "/etc/.*.conf")]
    (warning,) = settings.warnings
    assert json.dumps(written) in warning


def test_the_same_path_in_two_spellings_is_one_item():
    items = [{"name": "a", "destinationPath": path} for path in ("/etc/app", "/etc/app/", "//etc/./app")]
    assert dcr.load(arm({"fileSettings": {"fileInfo": items}}), "x").file_rules == [FileRule("a", "/etc/app")]


def test_more_items_than_are_used_are_counted():
    items = [{"destinationPath": "/etc/%d" % number} for number in range(file_items.MAX_FILE_ITEMS + 7)]
    settings = dcr.load(arm({"fileSettings": {"fileInfo": items}}), "x")
    assert len(settings.file_rules) == file_items.MAX_FILE_ITEMS
    assert settings.warnings == ["Only the first 1000 of 1007 file items are used. Remove some from the rules."]


def test_no_more_expressions_are_compiled_than_are_used(monkeypatch):
    compiled = []
    monkeypatch.setattr(file_items.pathspec, "normal", lambda path: compiled.append(path) or path)
    items = [{"destinationPath": "/etc/.*%d[a-z]+" % number} for number in range(40000)]
    settings = dcr.load(arm({"fileSettings": {"fileInfo": items * 2}}), "x")
    assert len(settings.file_rules) == len(compiled) == file_items.MAX_FILE_ITEMS
    assert settings.warnings == ["Only the first 1000 of 79000 file items are used. Remove some from the rules."]


def test_expressions_that_are_refused_are_compiled_up_to_the_same_number(monkeypatch):
    tried = []
    normal = file_items.pathspec.normal
    monkeypatch.setattr(file_items.pathspec, "normal", lambda path: tried.append(path) or normal(path))
    items = [{"destinationPath": "/etc/.*(%d" % number} for number in range(5000)]
    settings = dcr.load(arm({"fileSettings": {"fileInfo": items}}), "x")
    assert settings.file_rules == [] and len(tried) == file_items.MAX_FILE_ITEMS


def test_more_rules_than_are_used_are_counted_and_so_are_their_tags():
    elements = [
        {"id": "i%05d" % number, "extensionSettings": {}, "outputStreams": {CHANGE_STREAM: "t%d" % number}}
        for number in range(60000)
    ]
    settings = dcr.load({"extensionConfigurations": {EXTENSION: elements}}, "x")
    assert len(settings.rules) == len(settings.streams[CHANGE_STREAM]) == dcr.MAX_RULES
    assert settings.warnings == [
        "Only the first 100 of 60000 rules, sorted by id, are used. Associate fewer rules with this machine."
    ]


def test_warnings_are_as_few_as_a_person_reads_however_many_there_are():
    items = [{}] * 5000 + [{"destinationPath": "/etc/x", "zzz%d" % number: 1} for number in range(5000)]
    settings = dcr.load(arm({"fileSettings": {"fileInfo": items}}), "x")
    assert len(settings.file_rules) == 1 and len(settings.warnings) == reading.MAX_WARNINGS + 1
    assert settings.warnings[-1] == "Only the first 50 of 10000 warnings about the rule are shown."


def test_names_of_any_size_and_kind_are_labels():
    document = tagged(
        {"fileSettings": {"fileInfo": [{"name": "\ud800" + "n" * 100000, "destinationPath": "/etc/x"}, {}]}}
    )
    document["extensionConfigurations"][0]["id"] = "\udcff" + "i" * 100000
    settings = dcr.load(document, "x")
    for text in (printable(settings.file_rules[0].name), *settings.rules, *settings.warnings):
        assert len(text.encode("utf-8")) < 600


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["extensionSettings", "ChangeTracking-Linux"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["properties", "dataSources", "extensions", "extensionConfigurations", "resources", "ChangeTracking-Linux",
                         "extensionName", "extensionSettings", "fileSettings", "fileInfo", "value", "name", "id", "destinationPath", "enableFiles", "links"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_any_json_is_either_settings_or_a_dcr_error(document):
    try:
        assert isinstance(dcr.load(document, "x"), Settings)
    except DcrError:
        pass


def file_at(path):
    return File(path, "", 1, "", "", 0, 1, 1, "file", "")


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
    assert in_scope([list(rule)], file_at(path)) is expected


def test_the_tags_of_several_rules_are_those_of_each_in_the_order_of_their_ids():
    elements = [
        {
            "id": "dcr-2:CT",
            "extensionSettings": {},
            "outputStreams": {CHANGE_STREAM: "two", DATA_STREAM: "data"},
        },
        {
            "id": "dcr-1:CT",
            "extensionSettings": {},
            "outputStreams": {CHANGE_STREAM: "one", DATA_STREAM: "data"},
        },
    ]
    settings = dcr.load({"extensionConfigurations": {EXTENSION: elements}}, "here")
    assert settings.rules == ("dcr-1:CT", "dcr-2:CT")
    assert settings.streams == {CHANGE_STREAM: ("one", "two"), DATA_STREAM: ("data",)}


@pytest.mark.parametrize("streams", [[], {"CONFIG_CHANGE_BLOB_V2": 1}, "x"])
def test_output_streams_of_the_wrong_form_are_refused(streams):
    element = {"id": "dcr-1:CT", "extensionSettings": {}, "outputStreams": streams}
    with pytest.raises(DcrError, match="outputStreams"):
        dcr.load({"extensionConfigurations": {EXTENSION: [element]}}, "here")


def test_the_file_items_of_agent_track_have_the_name_that_the_operator_gave_them():
    settings = {"fileSettings": {"fileInfo": [{"destinationPath": "/a"}, {"destinationPath": "b", "nmae": "x"}]}}
    rule = {"extensionConfigurations": {EXTENSION: [{"id": "agent_track", "extensionSettings": settings}]}}
    unknown, left_out = dcr.given(rule, "x").warnings
    assert unknown.startswith("agent_track.files[1].nmae is not a key")
    assert left_out == "agent_track.files[1] is left out: destinationPath 'b' is not an absolute path; start it with /."
    del settings["fileSettings"]["fileInfo"][0]
    with pytest.raises(
        DcrError, match=r"agent_track: No file item in files can .* Correct agent_track.files, or remove it to track no"
    ):
        dcr.given(rule, "x")


@pytest.mark.parametrize("text", ['{"a": {"b\\n": 1, "b\\n": 1}}', '[{"c": [{"b\\n": 1, "x": {}, "b\\n": {}}]}]'])
def test_a_key_that_is_twice_in_one_object_is_refused(text):
    with pytest.raises(DcrError, match=r'^The DCR x has the key "b\\n" twice in one object. Remove one of them.$'):
        dcr.parse(text, "x")
    assert dcr.parse('{"a": {"a": 1}}', "x") == {"a": {"a": 1}}


def test_a_file_item_that_is_no_object_is_named_once():
    settings = dcr.load(arm(changed(lambda s: s["fileSettings"]["fileInfo"].append(5))), "x")
    (text,) = settings.left_out
    assert text.count("fileInfo") == 1 and text.endswith(
        "is left out: the file item is 5, not an object. Correct the DCR."
    )


def test_the_recommended_rule_is_valid_and_has_all_of_azures_template():
    settings = dcr.given(recommended.rule(), "x")
    assert settings.warnings == [] and settings.problems == []
    assert settings.file_rules[-1:] == default().file_rules
    assert len({rule.name for rule in settings.file_rules}) == len(settings.file_rules)
    assert (settings.kinds, settings.intervals) == (default().kinds, default().intervals)
    assert set(settings.streams) == {CHANGE_STREAM, DATA_STREAM}  # so that an agent can send its records


@pytest.mark.parametrize(
    "path, with_text",
    [
        ("/etc/ssh/sshd_config", True),
        ("/etc/ssh/sshd_config.d/50-redhat.conf", True),
        ("/etc/ssh/ssh_host_ed25519_key", False),
        ("/root/.ssh/authorized_keys", False),
        ("/home/ann/.ssh/authorized_keys2", False),
        ("/etc/sudoers", False),
        ("/etc/sudoers.d/90-cloud-init-users", False),
        ("/etc/passwd", True),
        ("/etc/group", True),
        ("/etc/shadow", False),
        ("/etc/gshadow", False),
        ("/etc/pam.d/sshd", True),
        ("/etc/security/opasswd", False),
        ("/etc/crontab", False),
        ("/etc/anacrontab", False),
        ("/etc/cron.deny", False),
        ("/etc/cron.daily/logrotate", False),
        ("/var/spool/cron/root", False),
        ("/var/spool/cron/crontabs/root", False),
        ("/etc/systemd/system/ssh.service.d/override.conf", False),
        ("/etc/apt/sources.list.d/debian.sources", False),
        ("/etc/yum.repos.d/redhat.repo", False),
        ("/etc/yum.conf", False),
        ("/etc/sysctl.d/99-local.conf", True),
        ("/etc/ld.so.preload", True),
        ("/etc/ansible/ansible.cfg", False),
        ("/etc/nginx/nginx.conf", False),
    ],
)
def test_the_recommended_rule_reaches_what_it_is_for_and_keeps_no_text_that_may_be_secret(path, with_text):
    first = next(rule for rule in dcr.given(recommended.rule(), "x").file_rules if reaches(rule, path, "file"))
    assert first.contents is with_text


def test_the_recommended_rule_tracks_no_other_entries_of_home():
    assert not in_scope(dcr.given(recommended.rule(), "x").file_rules, file_at("/home/ann/notes.conf"))
