"""The appliance's console, as `cargo xtask run --headless` and `cargo xtask test` serve it: a socket."""

import os
import socket
import time

PROMPTS = ("nas> ", "Type yes to go on: ", "Password: ", "Again: ")


def ask(options, *lines, limit=20):
    """Types a command and the answers to its questions; what was printed after the last line, up to the next prompt."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(os.path.join(options.directory, "console.sock"))
        text = ""
        for line in lines:
            # Everything printed before, prompts too, is none of the answer. What is typed at a password's prompt is not shown.
            hidden = text.endswith(("Password: ", "Again: "))
            stream.sendall(line.encode() + b"\r")
            text, end = "", time.monotonic() + limit
            while not (text.endswith(PROMPTS) and (hidden and "\n" in text or f"{line}\n" in text)):
                stream.settimeout(max(end - time.monotonic(), 0.01))
                try:
                    piece = stream.recv(4096)
                except TimeoutError as error:
                    raise AssertionError(f"the console did not finish {line!r} in {limit} s:\n{text[-600:]}") from error
                text += piece.decode("utf-8", "replace").replace("\r", "")
        return text.partition("\n")[2].removesuffix("nas> ")
