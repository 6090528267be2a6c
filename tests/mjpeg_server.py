"""MJPEG over HTTP, as a cheap camera serves it."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
from rtsp_server import moving_bar


class MjpegServer:
    """Endless multipart JPEG at `url`, 25 a second; `stalled` keeps the connection and sends nothing."""

    def __init__(self) -> None:
        self.stalled = False
        self._stop = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
                self.end_headers()
                index = 0
                try:
                    while not server._stop.is_set():
                        if not server.stalled:
                            jpeg = cv2.imencode(".jpg", moving_bar(index))[1].tobytes()
                            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                            self.wfile.write(head.encode() + jpeg + b"\r\n")
                            index += 1
                        time.sleep(0.04)
                except OSError:
                    pass

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/mjpeg"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()
