"""Running Samba's smbclient."""

import os
import subprocess

from tap import expect


def smbclient(options, commands, *more, port=None, share=None, user=None, password=None, limit=300):
    """Runs smbclient with `commands`; its output, standard error included, and whether it succeeded."""
    account = f"{options.user if user is None else user}%{options.password if password is None else password}"
    words = ["smbclient", f"//{options.host}/{share or options.share}", "-p", str(port or options.port), "-U", account]
    environment = dict(os.environ, LC_ALL="C.UTF-8")
    result = subprocess.run(
        words + list(more) + ["-c", commands], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=limit, env=environment, check=False)
    return result.stdout.decode("utf-8", "replace"), result.returncode == 0


def succeed(options, commands, *more, **named):
    """As `smbclient`, but fails the test when a command failed."""
    output, good = smbclient(options, commands, *more, **named)
    expect(good and "NT_STATUS_" not in output, output.strip()[-500:])
    return output
