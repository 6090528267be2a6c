"""What commands write: results to standard output, notices and complaints to standard error."""

from __future__ import annotations

import sys
from typing import Any

from edgeclip.errors import EdgeclipError


def complain(error: EdgeclipError) -> None:
    from edgeclip.runtime import journal
    from edgeclip.runtime.notify import sd_notify

    fix = f"\n  fix: {error.hint}" if error.hint else ""
    journal.write(sys.stderr, f"error: {error.message}{fix}", journal.ERROR, {"EDGECLIP_EXIT": str(error.exit_code)})
    sd_notify(f"STATUS=failed: {error.message}{f' ({error.hint})' if error.hint else ''}")


def notice(text: str) -> None:
    from edgeclip.runtime import journal

    if isinstance(text, journal.Notice):
        journal.write(sys.stderr, f"edgeclip: {text}", text.priority, text.fields)
    else:
        journal.write(sys.stderr, f"edgeclip: {text}", journal.INFO)


def print_json(value: Any) -> None:
    import json

    print(json.dumps(value, ensure_ascii=False))
