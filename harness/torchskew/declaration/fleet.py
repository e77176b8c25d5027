"""[fleet] of a declaration: which machines cells run on, and which of them may run which version. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Network

from torchskew.declaration.fields import Table, join
from torchskew.model.declared import FleetSpec, NodeNeed

HERE = "off"  # on the command line: this machine, whatever is declared
MOST_LOCAL = 32
_INTERFACE = re.compile(r"[\w.@:-]{1,15}")  # the kernel's names have at most 15 characters
_ADDRESS = re.compile(r"auto|local:\d+|[\w.-]+:\d+|\[[0-9a-fA-F:]+\]:\d+")


def read_fleet(table: Table) -> FleetSpec:
    """The fleet that a declaration asks for; problems are collected."""
    table.unknown(["address", "jobs", "interface", "needs"])
    address = table.get("address", str, "")
    if address and (problem := check_address(address)):
        table.problems.add(join(table.path, "address"), problem)
    jobs = table.get("jobs", int, 0)
    if "jobs" in table.values and not 1 <= jobs <= 256:
        table.problems.add(join(table.path, "jobs"), f"must be from 1 to 256, got {table.values['jobs']!r}.")
    needs = tuple(_need(pattern, each) for pattern, each in table.tables("needs"))
    interface = table.get("interface", str, "")
    if "interface" in table.values and (problem := _check_interface(interface)):
        table.problems.add(join(table.path, "interface"), problem)
    return FleetSpec(address=address, jobs=jobs or None, interface=interface, needs=needs)


def check_address(text: str) -> str:
    """What is wrong with the address of a fleet; empty where nothing is."""
    if not _ADDRESS.fullmatch(text):
        return f"must be auto, local:N or HOST:PORT of a Ray cluster, got {text!r}. Write one like 'local:3'."
    kind, _, count = text.partition(":")
    if kind == "local" and not 1 <= int(count) <= MOST_LOCAL:
        return f"must name 1 to {MOST_LOCAL} local nodes, got {text!r}."
    return ""


def asked_fleet(declared: FleetSpec, asked: str | None) -> FleetSpec:
    """The fleet of a run. asked: on the command line, where `off` means this machine."""
    if asked is None:
        return declared
    return replace(declared, address="" if asked == HERE else asked)


def problems_of(asked: str) -> str:
    """What is wrong with what was asked for on the command line; empty where nothing is."""
    return "" if asked == HERE else check_address(asked)


def _check_interface(text: str) -> str:
    """What is wrong with the interface between ranks; empty where nothing is."""
    if "/" not in text:
        return "" if _INTERFACE.fullmatch(text) else f"must be an interface like 'eth1' or a network, got {text!r}."
    try:
        IPv4Network(text)
    except ValueError as error:
        return f"must be an interface like 'eth1' or a network like '10.7.0.0/24', got {text!r}: {error}."
    return ""


def _need(pattern: str, table: Table) -> NodeNeed:
    table.unknown(["labels", "resources"])
    labels = table.get("labels", dict, {})
    resources = table.get("resources", dict, {})
    for name, value in labels.items():
        if not isinstance(value, str):
            table.problems.add(join(join(table.path, "labels"), name), f"must be text, got {value!r}.")
    for name, value in resources.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10**9:
            table.problems.add(join(join(table.path, "resources"), name), f"must be a number, got {value!r}.")
    numbers = {name: float(value) for name, value in resources.items() if isinstance(value, int | float)}
    return NodeNeed(versions=pattern, labels={name: str(value) for name, value in labels.items()}, resources=numbers)
