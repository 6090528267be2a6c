"""`edgeclip events`: what is in the outbox."""

from __future__ import annotations

from typing import Any

from edgeclip.commands.arguments import add_command, at_least_one
from edgeclip.commands.terminal import complain, print_json
from edgeclip.errors import BAD_DATA, OK, DataError

EPILOG = "exit code 65: a message cannot be read, as one of another version of edgeclip; the others are shown"


def add_events(commands: Any) -> None:
    group = commands.add_parser(
        "events", help="list, show or retry the events in the outbox", description="Events of watches, on this device."
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = add_command(
        actions, "events list", _events_list, "the newest messages, and how far they have come with every sink"
    )
    dead = add_command(actions, "events dead", _events_dead, "messages that a sink never took")
    show = add_command(actions, "events show", _events_show, "one event as it was sent, and how far it has come")
    retry = add_command(
        actions, "events retry", _events_retry, "send again what a sink never took; a running service does it at once"
    )
    for parser in (listed, dead):
        parser.add_argument("--limit", type=at_least_one, metavar="N", help="the newest N (default: 50)")
    show.add_argument("event", metavar="ID", help="id of an event or of a message")
    retry.add_argument("event", nargs="?", metavar="ID", help="of this event or message alone (default: all)")
    for parser in (listed, dead, show):
        parser.add_argument("--json", action="store_true", help="one JSON object a line")
        parser.epilog = EPILOG
    for parser in (listed, dead, show, retry):
        parser.add_argument("--state", metavar="DIR", help="state directory (default: EDGECLIP_STATE, or the usual)")


def _events_list(limit: int = 50, json: bool = False, state: str | None = None) -> int:
    return _print_events(state, json, limit)


def _events_dead(limit: int = 50, json: bool = False, state: str | None = None) -> int:
    return _print_events(state, json, limit, dead=True)


def _events_show(event: str, json: bool = False, state: str | None = None) -> int:
    return _print_events(state, json, 1000, event=event)


def _events_retry(event: str | None = None, state: str | None = None) -> int:
    from edgeclip.events.outbox import existing_outbox
    from edgeclip.state import state_dir

    with existing_outbox(state_dir(state)) as outbox:
        count = outbox.retry(event)
    print(f"{count} deliveries are tried again")
    return OK


def _print_events(state: str | None, as_json: bool, limit: int, *, event: str | None = None, dead: bool = False) -> int:
    import msgspec

    from edgeclip.events.delivery import Rejected
    from edgeclip.events.outbox import existing_outbox
    from edgeclip.state import state_dir

    with existing_outbox(state_dir(state)) as outbox:
        found = outbox.listed(limit, event, dead)
    if event is not None and not found:
        raise DataError(f"no event or message {event} in the outbox", "`edgeclip events list` shows what there is")
    code = OK
    for row, deliveries in found:
        try:
            message = row.event
        except Rejected as error:
            complain(DataError(error.message, "the version of edgeclip that wrote it can read it"))
            code = BAD_DATA
            continue
        if as_json:
            print_json({"message": msgspec.to_builtins(message), "deliveries": [one._asdict() for one in deliveries]})
            continue
        word = message.type.rpartition(".")[2]
        print(f"{message.time}  {word:<7}  {message.subject}  {message.data.camera}  {message.id}")
        if event is not None:
            print_json(msgspec.to_builtins(message))
        for one in deliveries:
            error_said = f": {one.error}" if one.error and one.state != "delivered" else ""
            print(f"    {one.state:<9}  {one.sink}  {one.attempts} attempts{error_said}")
    return code
