"""impacket: a client stack that also lets requests be bent."""

import io

from impacket import nmb, smb3
from impacket.nmb import NetBIOSError
from impacket.smb3structs import (
    SMB2_DIALECT_21, SMB2_DIALECT_30, SMB2_DIALECT_311, SMB2_TREE_CONNECT)
from impacket.smbconnection import SMBConnection, SessionError

from tap import equal, expect, main, test


def connect(options, port=None, dialect=SMB2_DIALECT_21, user=None, password=None):
    """A connection that has logged on."""
    connection = SMBConnection(
        options.host, options.host, sess_port=port or options.port, timeout=20, preferredDialect=dialect)
    connection.login(user or options.user, options.password if password is None else password)
    return connection


def status_of(call, *arguments):
    """The error status that a call ends with, 0 when it succeeds."""
    try:
        call(*arguments)
    except SessionError as error:
        return error.getErrorCode()
    except smb3.SessionError as error:
        return error.get_error_code()
    return 0


def dialect(number, name):
    @test()
    def check(options, _work):
        connection = connect(options, dialect=number)
        equal(connection.getDialect(), number, "dialect")
        expect(connection.isSigningRequired(), "the server does not require signing")
        data = bytes(range(256)) * 500
        connection.putFile(options.share, "impacket.bin", io.BytesIO(data).read)
        back = io.BytesIO()
        connection.getFile(options.share, "impacket.bin", back.write)
        expect(back.getvalue() == data, "the file came back changed")
        connection.deleteFile(options.share, "impacket.bin")
        connection.close()

    check.__name__ = f"impacket_dialect_{name}"


dialect(SMB2_DIALECT_21, "2_1")
dialect(SMB2_DIALECT_30, "3_0")
dialect(SMB2_DIALECT_311, "3_1_1")


@test()
def impacket_netbios_session(options, _work):
    """Port 139: a NetBIOS session request comes first."""
    if not options.netbios_port:
        return
    nmb.NETBIOS_SESSION_PORT = options.netbios_port
    try:
        connection = connect(options, port=options.netbios_port)
        connection.putFile(options.share, "netbios.bin", io.BytesIO(b"by port 139").read)
        connection.deleteFile(options.share, "netbios.bin")
        connection.close()
    finally:
        nmb.NETBIOS_SESSION_PORT = 139


@test()
def impacket_folders(options, _work):
    connection = connect(options, port=options.port2)
    names = [f"Ordner ä {number} 日" for number in range(120)]
    connection.createDirectory(options.share, "impacket")
    for name in names:
        connection.createDirectory(options.share, f"impacket\\{name}")
    found = {entry.get_longname() for entry in connection.listPath(options.share, "impacket\\*")}
    equal(found - {".", ".."}, set(names), "names")
    some = {entry.get_longname() for entry in connection.listPath(options.share, "impacket\\*7 ?")}
    equal(some, {name for name in names if name.endswith("7 日")}, "names that fit a pattern")
    connection.rename(options.share, f"impacket\\{names[0]}", "impacket\\renamed")
    equal(status_of(connection.deleteDirectory, options.share, "impacket"), 0xC0000101, "STATUS_DIRECTORY_NOT_EMPTY")
    for name in ["renamed"] + names[1:]:
        connection.deleteDirectory(options.share, f"impacket\\{name}")
    connection.deleteDirectory(options.share, "impacket")
    equal(status_of(connection.deleteDirectory, options.share, "impacket"), 0xC0000034, "STATUS_OBJECT_NAME_NOT_FOUND")
    connection.close()


@test()
def impacket_wrong_accounts(options, _work):
    for user, password in [(options.user, "wrong"), ("nobody-here", options.password), (options.user, "")]:
        equal(status_of(connect, options, None, SMB2_DIALECT_311, user, password), 0xC000006D, f"STATUS_LOGON_FAILURE for {user}")


@test()
def impacket_unknown_share(options, _work):
    connection = connect(options)
    equal(status_of(connection.connectTree, "no-such-share"), 0xC00000CC, "STATUS_BAD_NETWORK_NAME")
    connection.close()


@test()
def impacket_unsigned_request(options, _work):
    """A request without a signature, where signing is required, is refused."""
    for number in [SMB2_DIALECT_21, SMB2_DIALECT_30, SMB2_DIALECT_311]:
        connection = connect(options, dialect=number)
        server = connection.getSMBServer()
        server._Session["SigningActivated"] = False  # pylint: disable=protected-access
        server._Session["SessionFlags"] &= ~4  # pylint: disable=protected-access  # an encrypted one needs no signature
        server._Session["SigningRequired"] = False  # pylint: disable=protected-access
        server._Connection["RequireSigning"] = False  # pylint: disable=protected-access
        sent = []
        send = server.sendSMB

        def unsigned(packet):
            sent.append(packet["Command"])
            return send(packet)

        server.sendSMB = unsigned
        try:
            status = status_of(server.connectTree, options.share)
        except (NetBIOSError, OSError):
            status = "connection closed"
        expect(SMB2_TREE_CONNECT in sent, "nothing was sent")
        expect(status in (0xC0000022, "connection closed"), f"an unsigned request got {status!r} in dialect {number:#x}")


@test()
def impacket_bent_signature(options, _work):
    """One flipped bit in a signed request ends it with STATUS_ACCESS_DENIED; the server goes on."""
    connection = connect(options)
    server = connection.getSMBServer()
    sign = server.signSMB

    def bend(packet):
        sign(packet)
        signature = bytearray(packet["Signature"])
        signature[3] ^= 0x10
        packet["Signature"] = bytes(signature)

    server.signSMB = bend
    try:
        status = status_of(server.connectTree, options.share)
    except (NetBIOSError, OSError):
        status = "connection closed"
    expect(status in (0xC0000022, "connection closed"), f"a bent signature got {status!r}")
    connect(options).close()


if __name__ == "__main__":
    main()
