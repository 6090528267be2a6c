"""`edgeclip doctor` and `service`: this machine, and the systemd unit on it."""

from __future__ import annotations

import argparse
import os
from typing import Any

from edgeclip.commands.arguments import add_bundle_option, add_command, at_least_one, usual_bundle
from edgeclip.commands.terminal import print_json
from edgeclip.errors import OK, UNAVAILABLE, EngineError


def add_doctor(commands: Any) -> None:
    parser = add_command(
        commands,
        "doctor",
        _doctor,
        "say what this machine can and cannot do, and how to mend it",
        "Tries every engine of the bundle on every runtime installed. Exit code 69 where `run` cannot work.",
    )
    add_bundle_option(parser)
    parser.add_argument("--json", action="store_true", help="all checks as a JSON list")


def _doctor(bundle: str | None = None, json: bool = False) -> int:
    import msgspec

    from edgeclip.doctor import diagnose

    checks = diagnose(bundle or usual_bundle())
    if json:
        print_json(msgspec.to_builtins(checks))
    else:
        for check in checks:
            print(f"{check.status:<5} {check.name}: {check.detail}")
            if check.fix and check.status != "ok":
                print(f"      fix: {check.fix}")
    return UNAVAILABLE if any(check.status == "fail" for check in checks) else OK


def add_service(commands: Any) -> None:
    group = commands.add_parser(
        "service", help="install the systemd service, or say how it is", description="The systemd service."
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    install = add_command(
        actions,
        "service install",
        _service_install,
        "put the unit, its user and its configuration in place; safe to repeat",
        "Configuration that is there stays. Run it again after adding a file to /etc/edgeclip/credentials.",
    )
    uninstall = add_command(
        actions, "service uninstall", _service_uninstall, "take it away; configuration and state stay"
    )
    for parser in (install, uninstall):
        parser.add_argument("--root", metavar="DIR", help="of an image that is being made, instead of this system")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    install.add_argument("--exec", dest="executable", metavar="PATH", help="edgeclip's, as the service will see it")
    install.add_argument(
        "--gpu", action=argparse.BooleanOptionalAction, help="access to NVIDIA devices (default: where there are any)"
    )
    install.add_argument("--now", action="store_true", help="start it too")
    status = add_command(actions, "service status", _service_status, "how it is; exit code 69 where it is not active")
    status.add_argument("--json", action="store_true", help="systemd's properties as one JSON object")
    logs = add_command(actions, "service logs", _service_logs, "its lines in the journal")
    logs.add_argument("--lines", type=at_least_one, metavar="N", help="the last N (default: 50)")
    logs.add_argument("--follow", action="store_true", help="and those to come")


def _service_install(root: str = "/", dry_run: bool = False, **options: Any) -> int:
    from pathlib import Path

    from edgeclip.unit import Place, install

    place = Place(Path(root), dry_run)
    install(place, **options)
    if not dry_run and not place.image:
        print("next: name your camera in /etc/edgeclip/edgeclip.yaml, then: sudo systemctl restart edgeclip")
    return OK


def _service_uninstall(root: str = "/", dry_run: bool = False) -> int:
    from pathlib import Path

    from edgeclip.unit import Place, uninstall

    uninstall(Place(Path(root), dry_run))
    return OK


def _service_status(json: bool = False) -> int:
    from edgeclip.unit import status, summary

    facts = status()
    if json:
        print_json(facts)
    else:
        print("\n".join(summary(facts)))
    return OK if facts.get("ActiveState") in ("active", "reloading") else UNAVAILABLE


def _service_logs(lines: int = 50, follow: bool = False) -> int:
    from edgeclip.unit import logs_command

    command = logs_command(lines, follow)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        raise EngineError("journalctl is not here: this system has no systemd") from error
