"""pysmb: a third client stack, and the one that asks for a NetBIOS session on port 139."""

import io

from smb.SMBConnection import SMBConnection
from smb.base import NotConnectedError
from smb.smb_structs import OperationFailure

from tap import equal, expect, main, test


def connect(options, netbios, name="*SMBSERVER"):
    connection = SMBConnection(
        options.user, options.password, "client", name, use_ntlm_v2=True, is_direct_tcp=not netbios)
    port = options.netbios_port if netbios else options.port
    expect(connection.connect(options.host, port, timeout=20), "the log-on was refused")
    return connection


def round_trip(options, netbios):
    connection = connect(options, netbios)
    data = bytes(range(256)) * 1000
    connection.createDirectory(options.share, "pysmb")
    connection.storeFile(options.share, "pysmb/Größe 日.bin", io.BytesIO(data))
    names = {entry.filename for entry in connection.listPath(options.share, "pysmb")}
    equal(names, {".", "..", "Größe 日.bin"}, "names")
    back = io.BytesIO()
    _, size = connection.retrieveFile(options.share, "pysmb/Größe 日.bin", back)
    equal(size, len(data), "size")
    expect(back.getvalue() == data, "the file came back changed")
    connection.rename(options.share, "pysmb/Größe 日.bin", "pysmb/other")
    connection.deleteFiles(options.share, "pysmb/other")
    connection.deleteDirectory(options.share, "pysmb")
    connection.close()


@test()
def pysmb_direct(options, _work):
    round_trip(options, netbios=False)


@test()
def pysmb_netbios_session(options, _work):
    """Port 139: NetBIOS session request first."""
    round_trip(options, netbios=True)


@test()
def pysmb_wrong_password(options, _work):
    connection = SMBConnection(options.user, "wrong", "client", "*SMBSERVER", use_ntlm_v2=True, is_direct_tcp=True)
    try:
        expect(not connection.connect(options.host, options.port, timeout=20), "a wrong password was accepted")
    except NotConnectedError:
        pass


@test()
def pysmb_missing_file(options, _work):
    connection = connect(options, netbios=False)
    try:
        connection.retrieveFile(options.share, "missing", io.BytesIO())
        raise AssertionError("a missing file was read")
    except OperationFailure as error:
        expect("0xC0000034" in str(error) or "Unable to open" in str(error), str(error))
    connection.close()


if __name__ == "__main__":
    main()
