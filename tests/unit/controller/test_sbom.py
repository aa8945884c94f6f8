# Copyright (c) changetracking.inventory contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter ct_sbom; the referees are the strict validator of CycloneDX, and packageurl-python."""

import copy
import json
import os

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.changetracking.inventory.plugins.filter.ct_sbom import ct_sbom
from ansible_collections.changetracking.inventory.plugins.plugin_utils import _sbom

try:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from packageurl import PackageURL
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("cyclonedx-python-lib[json-validation] and packageurl-python are needed", allow_module_level=True)

pytestmark = pytest.mark.no_core

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)
DEBIAN = {"distribution": "Debian", "distribution_version": "12.5", "distribution_major_version": "12"}
RHEL = {"distribution": "RedHat", "distribution_version": "9.4", "distribution_major_version": "9"}


def row(name, version, architecture, source, **more):
    return {"SoftwareName": name, "CurrentVersion": version, "Architecture": architecture, "Source": source, **more}


DEBS = [
    row("bash", "5.2.15-2+b13", "amd64", "bash (5.2.15-2)", Publisher="Matthias Klose <doko@debian.org>"),
    row("bsdutils", "1:2.38.1-5+deb12u3", "amd64", "util-linux (2.38.1-5+deb12u3)"),
    row("libc6", "2.36-9+deb12u13", "amd64", "glibc", SoftwareDescription="GNU C Library: <script>alert(1)</script>"),
    row("openssl", "3.0.17-1~deb12u2", "amd64", ""),
]
RPMS = [
    row("bash", "0:5.1.8-9.el9", "x86_64", "bash-5.1.8-9.el9.src.rpm"),
    row("openssl-libs", "1:3.0.7-27.el9", "x86_64", "openssl-3.0.7-27.el9.src.rpm"),
    row("gpg-pubkey", "0:fd431d51-4ae0493b", "", "(none)"),
]


def facts(manager, items, **system):
    sources = {"dpkg": {"status": "absent", "count": 0}, "rpm": {"status": "absent", "count": 0}}
    sources[manager] = {"status": "ok", "count": len(items)}
    found = {"items": items, "count": len(items), "sources": sources, "collected_at": "2026-01-09T08:00:01Z"}
    return {"ansible_facts": {**system, "ct_packages": found}}


HOSTS = {
    "deb1": facts("dpkg", DEBS, **DEBIAN),
    "deb2": facts("dpkg", DEBS[1:], **DEBIAN),
    "rpm1": facts("rpm", RPMS, **RHEL),
}


def valid(document):
    """The document, after strict validation."""
    text = json.dumps(document)
    assert VALIDATOR.validate_str(text) is None
    for component in document["components"]:
        if "purl" in component:
            assert PackageURL.from_string(component["purl"]).to_string() == component["purl"]
    return document


def purls(document):
    return [component["purl"] for component in document["components"] if "purl" in component]


def packages_of(document, ref):
    """The purls that a host depends on."""
    components = {component["bom-ref"]: component for component in document["components"]}
    (refs,) = [entry["dependsOn"] for entry in document["dependencies"] if entry["ref"] == ref]
    return [components[other]["purl"] for other in refs if "purl" in components[other]]


def test_packages_of_dpkg_have_their_epoch_in_the_version_and_their_source_in_upstream():
    assert purls(valid(ct_sbom(["deb1"], HOSTS))) == [
        "pkg:deb/debian/bash@5.2.15-2%2Bb13?arch=amd64&distro=debian-12&upstream=bash%405.2.15-2",
        "pkg:deb/debian/bsdutils@1:2.38.1-5%2Bdeb12u3?arch=amd64&distro=debian-12&upstream=util-linux%402.38.1-5%2Bdeb12u3",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12&upstream=glibc",
        "pkg:deb/debian/openssl@3.0.17-1~deb12u2?arch=amd64&distro=debian-12",
    ]


def test_packages_of_rpm_have_their_epoch_in_a_qualifier():
    document = valid(ct_sbom(["rpm1"], HOSTS))
    assert purls(document) == [
        "pkg:rpm/redhat/bash@5.1.8-9.el9?arch=x86_64&distro=rhel-9.4&upstream=bash-5.1.8-9.el9.src.rpm",
        "pkg:rpm/redhat/gpg-pubkey@fd431d51-4ae0493b?distro=rhel-9.4",
        "pkg:rpm/redhat/openssl-libs@3.0.7-27.el9?arch=x86_64&distro=rhel-9.4&epoch=1&upstream=openssl-3.0.7-27.el9.src.rpm",
    ]
    versions = {component["name"]: component["version"] for component in document["components"]}
    assert versions == {
        "rhel": "9.4", "bash": "5.1.8-9.el9", "gpg-pubkey": "fd431d51-4ae0493b", "openssl-libs": "1:3.0.7-27.el9",
    }  # fmt: skip


def test_a_document_of_one_host_is_about_that_host():
    document = valid(ct_sbom(["deb1"], HOSTS))
    assert document["metadata"]["component"] == {"bom-ref": "host-deb1", "type": "device", "name": "deb1"}
    assert document["metadata"]["timestamp"] == "2026-01-09T08:00:01Z"
    assert document["compositions"] == [{"aggregate": "complete", "dependencies": ["host-deb1"]}]
    assert packages_of(document, "host-deb1") == purls(document)
    bash, libc = document["components"][1], document["components"][3]
    assert (bash["publisher"], libc["description"]) == (DEBS[0]["Publisher"], DEBS[2]["SoftwareDescription"])


def test_a_group_has_each_package_once_and_says_which_host_has_which():
    document = valid(ct_sbom(["deb1", "deb2", "rpm1"], HOSTS, "web"))
    assert document["metadata"]["component"]["name"] == "web"
    assert len(purls(document)) == len(set(purls(document))) == len(DEBS) + len(RPMS)
    assert len(packages_of(document, "host-deb1")) == 4
    assert packages_of(document, "host-deb2") == packages_of(document, "host-deb1")[1:]
    assert {"ref": "group", "dependsOn": ["host-deb1", "host-deb2", "host-rpm1"]} in document["dependencies"]


def test_the_same_facts_give_the_same_document_and_others_another_serial_number():
    once = ct_sbom(["deb1", "rpm1"], HOSTS, "web")
    assert once == ct_sbom(["deb1", "rpm1"], copy.deepcopy(HOSTS), "web")
    assert once["serialNumber"] != ct_sbom(["deb2", "rpm1"], HOSTS, "web")["serialNumber"]


def test_no_data_about_a_host_is_not_no_packages():
    hosts = copy.deepcopy(HOSTS)
    hosts["deb2"]["ansible_facts"]["ct_packages"]["sources"]["dpkg"]["status"] = "failed"
    hosts["rpm1"]["ansible_facts"]["ct_packages"]["sources"]["rpm"]["count"] = 400  # the facts are some of the packages
    hosts["gone"] = {}
    hosts["old"] = facts("dpkg", [{"SoftwareName": "bash"}], **DEBIAN)
    hosts["bare"] = facts("dpkg", DEBS)
    document = valid(ct_sbom(list(hosts), hosts, "web"))
    assert document["compositions"] == [
        {"aggregate": "complete", "dependencies": ["host-deb1"]},
        {"aggregate": "incomplete", "dependencies": ["host-deb2", "host-rpm1"]},
        {"aggregate": "unknown", "dependencies": ["host-gone", "host-old", "host-bare"]},
    ]
    problems = [one["properties"][0]["value"] for one in document["components"] if "properties" in one]
    assert problems == [
        "There is no fact ct_packages.",
        "The items of ct_packages do not have SoftwareName, CurrentVersion, Architecture, Source.",
        "There is no fact distribution.",
    ]


def test_a_host_with_both_databases_has_packages_of_both():
    hosts = {"both": facts("dpkg", DEBS + RPMS[:1], **DEBIAN)}
    hosts["both"]["ansible_facts"]["ct_packages"]["sources"] = {
        "dpkg": {"status": "ok", "count": 4},
        "rpm": {"status": "ok", "count": 1},
    }
    document = valid(ct_sbom(["both"], hosts))
    assert [purl.split("@")[0] for purl in purls(document)][-2:] == ["pkg:deb/debian/openssl", "pkg:rpm/debian/bash"]
    assert document["compositions"][0]["aggregate"] == "complete"


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (DEBIAN, ("debian", "12")),
        ({"distribution": "Ubuntu", "distribution_version": "22.04"}, ("ubuntu", "22.04")),
        (RHEL, ("rhel", "9.4")),
        ({"distribution": "OracleLinux", "distribution_version": "8.9"}, ("ol", "8.9")),
        ({"distribution": "CentOS", "distribution_version": "7.9", "distribution_major_version": "7"}, ("centos", "7")),
        ({"distribution": "openSUSE Leap", "distribution_version": "15.5"}, ("opensuse-leap", "15.5")),
        ({"distribution": "SLES", "distribution_version": "15.5"}, ("sles", "15.5")),
        ({"distribution": "Amazon", "distribution_version": "2023"}, ("amzn", "2023")),
    ],
)
def test_distributions_are_named_as_os_release_names_them(system, expected):
    assert _sbom.read("h", facts("dpkg", [], **system)).distribution == expected


@pytest.mark.parametrize(
    ("hosts", "name", "words"),
    [
        (["deb1", "deb2"], "", "got 2 hosts and no name. Give the name of the group, or one host."),
        ([], "", "got 0 hosts and no name"),
        ([], "web", "has the packages of no host. Run ansible.builtin.setup with gather_subset distribution"),
        (["gone"], "", "has the packages of no host. There is no fact ct_packages. Run"),
        ("deb1", "", "needs a list of hosts, not a text"),
        (["nobody"], "", "there is no host 'nobody' in the inventory"),
    ],
)
def test_what_makes_no_document_gets_one_sentence(hosts, name, words):
    with pytest.raises(AnsibleFilterError, match=words):
        ct_sbom(hosts, {**HOSTS, "gone": {}}, name)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=20),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(st.sampled_from(["items", "count", "status"]), values, max_size=3)
    ),
    max_leaves=8,
)
texts = st.text(st.characters(), max_size=30)
rows = st.fixed_dictionaries(dict.fromkeys((*_sbom.NEEDED, *_sbom.OPTIONAL), texts))
sources = st.dictionaries(
    st.sampled_from(["dpkg", "rpm"]), st.fixed_dictionaries({"status": texts, "count": st.integers(0, 3)}) | anything
)


@given(
    st.fixed_dictionaries({
        "distribution": texts | anything,
        "distribution_version": texts | anything,
        "ct_packages": anything | st.fixed_dictionaries({
            "items": anything | st.lists(rows | anything, max_size=3) | st.lists(rows, max_size=3),
            "sources": anything | sources,
            "collected_at": texts | anything | st.just("2026-99-09T08:00:01Z"),
        }),
    })
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_whatever_a_host_answers_the_document_of_the_group_is_valid(found):
    document = ct_sbom(["deb1", "evil"], {**HOSTS, "evil": {"ansible_facts": found}}, "web")
    assert VALIDATOR.validate_str(json.dumps(document)) is None
    assert len(packages_of(document, "host-deb1")) == 4
