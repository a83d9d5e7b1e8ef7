#!/usr/bin/env python3
"""tests/vm/list.py LIMIT_S [TEST...]

What tests/vm/run is to do, as lines of bash: the tests of those names, or of those paths of
programs; those with the label vm if none is named. Reads "ctest --show-only=json-v1".
"""
import json
import os
import shlex
import sys

limit_s, names = sys.argv[1], sys.argv[2:]
# The guest has drivers of its own.
OURS = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
known = {test["name"]: test for test in json.load(sys.stdin)["tests"]}


def properties(test):
    return {p["name"]: p["value"] for p in test.get("properties", [])}


def environment(test):
    """The words for env(1) that set what ctest would set for this test."""
    found = properties(test)
    words = [shlex.quote(setting) for setting in found.get("ENVIRONMENT", [])]
    for setting in found.get("ENVIRONMENT_MODIFICATION", []):
        name, change = setting.split("=", 1)
        operation, value = change.split(":", 1)
        if name in OURS:
            continue
        if operation not in ("set", "path_list_prepend"):
            sys.exit(f"list.py: {operation}, which {test['name']} wants, is not known here")
        rest = '"${%s:+:$%s}"' % (name, name) if operation == "path_list_prepend" else ""
        words.append(f"{name}={shlex.quote(value)}{rest}")
    return words


def is_program(path):
    return os.path.isfile(path) and os.access(path, os.X_OK)


def line(name):
    folder, words = os.getcwd(), []
    if "/" in name and is_program(name):
        command = [os.path.realpath(name)]
    elif name in known and is_program(known[name].get("command", [""])[0]):
        command = known[name]["command"]
        folder = properties(known[name]).get("WORKING_DIRECTORY", folder)
        words = environment(known[name])
    else:
        sys.exit(f"test-vm: {name} is no test, or is not built")
    return " ".join(["run_test", shlex.join([name, folder, limit_s]), "env", *words,
                     shlex.join(command)])


labelled = [name for name, test in known.items() if "vm" in properties(test).get("LABELS", [])]
for wanted in names or labelled:
    print(line(wanted))
