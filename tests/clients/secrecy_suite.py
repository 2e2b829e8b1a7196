"""Encryption is required: who can't is refused, and who listens between client and server learns nothing."""

import hashlib
import io
import os
import random

from impacket import smb3
from impacket.smb3structs import SMB2_DIALECT_21, SMB2_DIALECT_30, SMB2_DIALECT_311
from impacket.nmb import NetBIOSError
from impacket.smbconnection import SMBConnection, SessionError
from smbprotocol.connection import Dialects
from smbprotocol.file_info import FileInformationClass

from proxy import Proxy
from samba import smbclient
from smbprotocol_suite import Client
from tap import equal, expect, main, test

NAMES = ["Gehaltsliste", "vierteljahr.txt", "geheimer-ordner", "nirgends", "verwehrt"]


def content(seed):
    return random.Random(seed).randbytes(300_000)


def in_clear(proxy, data, names):
    """The names, and pieces of the data, that went by in clear."""
    seen, found = bytes(proxy.seen), []
    expect(len(seen) > len(data), f"only {len(seen)} bytes went by")
    for name in names:
        for spelled in {name, name.upper(), name.lower()}:
            # Four letters of one byte each may come about by chance.
            for pattern in (spelled.encode(), spelled.encode("utf-16-le")):
                if len(pattern) >= 8 and pattern in seen:
                    found.append(pattern)
    return found + [data[start:start + 16] for start in range(0, len(data) - 16, 997) if data[start:start + 16] in seen]


def learns_nothing(proxy, data, names):
    """Neither a name, in any spelling, nor a piece of the data is in what went by."""
    found = in_clear(proxy, data, names)
    expect(proxy.seen.count(b"\xfdSMB") > 4, "there are no encrypted messages")
    expect(not found, f"{len(found)} things went by in clear, {found[:3]}")


def written_read_and_listed(client, name, data):
    """A new file in the root, still open; its data and its name went both ways."""
    file = client.open(name)
    for start in range(0, len(data), 50_000):
        file.write(data[start:start + 50_000], start)
    expect(b"".join(file.read(start, 50_000) for start in range(0, len(data), 50_000)) == data, "it came back changed")
    folder = client.folder("")
    listed = folder.query_directory(name, FileInformationClass.FILE_NAMES_INFORMATION)
    equal(listed[0]["file_name"].get_value().decode("utf-16-le"), name, "name")
    folder.close()
    return file


@test(limit=60)
def a_listener_learns_nothing_from_smbclient(options, work):
    data = content("smbclient")
    path = os.path.join(work, NAMES[1])
    with open(path, "wb") as file:
        file.write(data)
    for dialect in ["SMB3_00", "SMB3_02", "SMB3_11"]:
        proxy = Proxy(options.host, options.port)
        commands = (f"mkdir {NAMES[2]}; cd {NAMES[2]}; put {path} {NAMES[1]}; ls; rename {NAMES[1]} {NAMES[0]}; get {NAMES[0]} {path}.back; "
                    f"del {NAMES[0]}; cd ..; rmdir {NAMES[2]}; get {NAMES[3]}")
        output, _ = smbclient(options, commands, "--client-protection=encrypt", f"-m{dialect}", port=proxy.port)
        expect("NT_STATUS_OBJECT_NAME_NOT_FOUND" in output and NAMES[0] not in output.split("NT_STATUS")[-1], output)
        with open(path + ".back", "rb") as file:
            equal(hashlib.sha256(file.read()).digest(), hashlib.sha256(data).digest(), "the file's hash")
        proxy.close()
        learns_nothing(proxy, data, NAMES + [options.share, options.share2])


@test(limit=60)
def a_listener_learns_nothing_from_smbprotocol(options, _work):
    data = content("smbprotocol")
    for dialect in [Dialects.SMB_3_0_0, Dialects.SMB_3_1_1]:
        proxy = Proxy(options.host, options.port)
        with Client(options, dialect, port=proxy.port, encrypt=True) as client:
            written_read_and_listed(client, NAMES[0], data).close()
            client.remove(NAMES[0])
        proxy.close()
        learns_nothing(proxy, data, NAMES + [options.share, options.share2])


@test(limit=60)
def a_listener_learns_nothing_from_impacket(options, _work):
    data = content("impacket")
    for dialect in [SMB2_DIALECT_30, SMB2_DIALECT_311]:
        proxy = Proxy(options.host, options.port)
        connection = SMBConnection(options.host, options.host, sess_port=proxy.port, timeout=20, preferredDialect=dialect)
        connection.login(options.user, options.password)
        connection.putFile(options.share, NAMES[4], io.BytesIO(data).read)
        back = io.BytesIO()
        connection.getFile(options.share, NAMES[4], back.write)
        expect(back.getvalue() == data, "it came back changed")
        connection.deleteFile(options.share, NAMES[4])
        connection.close()
        proxy.close()
        learns_nothing(proxy, data, NAMES + [options.share, options.share2])


@test()
def who_cannot_encrypt_is_refused(options, _work):
    for dialect in ["SMB2_02", "SMB2_10"]:
        output, good = smbclient(options, "ls", f"-m{dialect}")
        expect(not good and "NT_STATUS_" in output, output)
    try:
        connection = SMBConnection(options.host, options.host, sess_port=options.port, timeout=20, preferredDialect=SMB2_DIALECT_21)
        connection.login(options.user, options.password)
        connection.connectTree(options.share)
        end = "connected"
    except (SessionError, smb3.SessionError, NetBIOSError, OSError) as error:
        end = str(error)
    expect("STATUS_ACCESS_DENIED" in end, f"SMB 2.1: {end}")


@test()
def who_does_not_encrypt_is_refused(options, _work):
    """The session is there, but nothing is served in clear, whatever the client signs."""
    for dialect in [SMB2_DIALECT_30, SMB2_DIALECT_311]:
        connection = SMBConnection(options.host, options.host, sess_port=options.port, timeout=20, preferredDialect=dialect)
        connection.login(options.user, options.password)
        server = connection.getSMBServer()
        server._Session["SessionFlags"] &= ~4  # pylint: disable=protected-access
        try:
            server.connectTree(options.share)
            end = 0
        except Exception as error:  # pylint: disable=broad-except
            end = getattr(error, "error", None) or str(error)
        expect(end == 0xC0000022 or "closed" in str(end).lower() or "reset" in str(end).lower(), f"a request in clear got {end!r}")


if __name__ == "__main__":
    main()
