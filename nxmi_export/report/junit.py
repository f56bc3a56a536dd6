"""A parity run in, a JUnit XML document out: a suite for each dev split, a case for each check."""

import re
from xml.etree import ElementTree as ET

from nxmi_export.parity import Check, ParityRun, SplitParity

__all__ = ["junit_xml"]

# What XML 1.0 cannot hold, not even escaped; a text or a path may.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(run: ParityRun) -> str:
    """The whole document, declaration included.

    A check that failed has a `failure`, one that could not decide and may pass is `skipped`. Every
    suite has the primary score of each rung among its properties.
    """
    suites = [_suite(split) for split in run.splits]
    root = ET.Element("testsuites", name="nxmi-export parity")
    for count in ("tests", "failures", "skipped"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    root.extend(suites)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(split: SplitParity) -> ET.Element:
    checks = split.verdict.checks
    counts = {
        "tests": len(checks),
        "failures": sum(bool(check.failures) for check in checks),
        "errors": 0,
        "skipped": sum(_skipped(check) for check in checks),
    }
    attributes = {name: str(count) for name, count in counts.items()}
    suite = ET.Element("testsuite", {"name": split.result.name, **attributes})
    properties = ET.SubElement(suite, "properties")
    for stage, rung in split.result.rungs.items():
        value = f"{rung.primary!r}"
        ET.SubElement(properties, "property", name=f"{stage.value}.primary", value=value)
    classname = ".".join(("parity", *split.result.name.split()))
    for check in checks:
        case = ET.SubElement(suite, "testcase", classname=classname, name=check.name)
        if check.failures:
            message, *_ = check.failures
            failure = ET.SubElement(case, "failure", type="GateFailed", message=_clean(message))
            failure.text = _clean("\n".join(check.failures))
        elif check.undecided:
            ET.SubElement(case, "skipped", message=_clean(check.undecided))
    return suite


def _skipped(check: Check) -> bool:
    return not check.failures and check.undecided is not None


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
