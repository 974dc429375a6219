#!/usr/bin/env python3
"""Adds up JUnit results and prints `N passed, N failed, N skipped`; exit 1 unless all is well."""

import argparse
import pathlib
import re
import sys
import xml.etree.ElementTree as xml


def read(path):
    """The document, without the control characters that programs print and XML does not have."""
    text = path.read_text(errors="replace")
    return xml.fromstring(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text))


def outcome(case):
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=pathlib.Path, help="a folder of JUnit files")
    parser.add_argument("--broken", type=int, default=0, help="steps that failed without results")
    options = parser.parse_args()

    total = {"passed": 0, "failed": options.broken, "skipped": 0}
    for path in sorted(options.results.glob("*.xml")):
        for case in read(path).iter("testcase"):
            result = outcome(case)
            total[result] += 1
            if result == "failed":
                print(f"failed: {path.stem}: {case.get('classname')} {case.get('name')}")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**total))
    sys.exit(1 if total["failed"] or not total["passed"] else 0)


if __name__ == "__main__":
    main()
