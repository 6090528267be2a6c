from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeclip.runtime.sources.address import redacted


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://cam:secret@10.0.0.2:554/live", "rtsp://***@10.0.0.2:554/live"),
        ("rtsp://cam:pa/ss?w@rd#@10.0.0.2/live", "rtsp://***@10.0.0.2/live"),
        ("http://host/mjpeg?user=admin&password=secret", "http://host/mjpeg?***"),
        ("rtsp://host/user=admin&password=secret&channel=1.sdp", "rtsp://host/user=***&password=***&channel=1.sdp"),
        ("rtsp://host/live", "rtsp://host/live"),
        ("clip.mp4", "clip.mp4"),
        ("gst:rtspsrc location=rtsp://a:secret@h/x ! fakesink", "gst:rtspsrc location=rtsp://***@h/x ! fakesink"),
        (
            "gst:rtspsrc user-id=a user-pw=secret location=rtsp://h/x",
            "gst:rtspsrc user-id=*** user-pw=*** location=rtsp://h/x",
        ),
    ],
)
def test_what_is_shown(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


@given(
    st.text(
        st.characters(codec="ascii", exclude_characters=" \t\n\r\v\f\x1c\x1d\x1e\x1f", categories=["L", "N", "P", "S"]),
        min_size=1,
    )
)
def test_no_password_is_ever_shown(password: str) -> None:
    secret = f"<{password}>"
    assert secret not in redacted(f"rtsp://user:{secret}@host/live")
    assert redacted(f"rtsp://user:{secret}@host/live") == "rtsp://***@host/live"
