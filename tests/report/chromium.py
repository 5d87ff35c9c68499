"""Drive Chromium without a window by the DevTools protocol over a pipe; no further package is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """Hold one page: ``with Chromium(folder) as page``.

    ``errors`` collects what the console would show in red: exceptions, errors, refused loads.
    """

    def __init__(self, profile, width=1280, height=900):
        self.errors, self.requests = [], []
        self._count, self._buffer = 0, b""
        self._command = [
            FOUND,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *(
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                "about:blank",
            ),
        ]

    def __enter__(self):
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()

        def pipes():
            # The protocol reads descriptor 3 and writes 4; the pipe's ends may be those two themselves.
            ends = os.dup(to_read), os.dup(to_write)
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self._process = subprocess.Popen(
            self._command, preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._session = None
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method, **params):
        """Call one method of the protocol and wait for its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self, limit=120):
        end = time.monotonic() + limit
        while b"\0" not in self._buffer:
            if select.select([self._from], [], [], 1)[0]:
                self._buffer += os.read(self._from, 1 << 20)
            assert self._process.poll() is None, "Chromium ended by itself"
            assert time.monotonic() < end, "Chromium doesn't answer"
        line, self._buffer = self._buffer.split(b"\0", 1)
        event = json.loads(line)
        self._note(event.get("method"), event.get("params", {}))
        return event

    def _note(self, method, params):
        if method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"][:200])

    def open(self, path, address=""):
        """Load a file at an address within it, such as ``#cases``, and wait until it is complete."""
        self.send("Page.navigate", url=path.resolve().as_uri() + address)
        while self.run("document.readyState") != "complete":
            time.sleep(0.05)

    def run(self, expression):
        """Evaluate an expression in the page and return its value as JSON has it."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key):
        """Press one key."""
        codes = {
            "Enter": 13,
            "Escape": 27,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Home": 36,
            "Tab": 9,
            "Space": 32,
        }
        texts = {"Enter": "\r", "Space": " "}
        event = {"key": texts[key] if key == "Space" else key, "code": key, "windowsVirtualKeyCode": codes[key]}
        if key in texts:
            event["text"] = texts[key]
        self.send("Input.dispatchKeyEvent", type="keyDown", **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in event.items() if k != "text"})

    def emulate(self, scheme, width, height):
        """Set the color scheme and the size of the window; it scrolls at once."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.send("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in features.items()])
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, path):
        """Save the content of the window as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))
