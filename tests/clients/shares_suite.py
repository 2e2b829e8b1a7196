"""Shares as the console makes them: hidden, encrypted, for some users, for guests. The volume behind all of them is the same."""

import contextlib
import os
import time

from impacket.smbconnection import SMBConnection
from smbprotocol.connection import Dialects
from smbprotocol.exceptions import SMBResponseException
from smbprotocol.file_info import FileBasicInformation, FileDispositionInformation, FileEndOfFileInformation
from smbprotocol.header import NtStatus
from smbprotocol.open import CreateDisposition, CreateOptions

from console import ask
from proxy import Proxy
from samba import smbclient, succeed
from secrecy_suite import in_clear, learns_nothing, written_read_and_listed
from smbprotocol_suite import READ, Client, refuses
from tap import equal, expect, main, test
from tree import file_hash, make_file

DENIED = "NT_STATUS_ACCESS_DENIED"
# Share -> what follows its name and volume on the console.
SHARES = {
    "attic": "hidden",
    "vault": "encrypted",
    "safe": "encrypted guest",
    "lobby": "guest-ro",
    "letterbox": "guest",
    "books": "ro ada=rw bob=none",
    "desk": "ada=ro bob=none",
    "museum": "ro guest",
}
USERS = ["ada", "bob", "eve"]
# Share -> user -> what is allowed. "" is a guest.
ACCESS = {
    "data": {"nas": "rw", "ada": "rw", "bob": "rw", "eve": "rw", "": "none"},
    "attic": {"nas": "rw", "ada": "rw", "bob": "rw", "eve": "rw", "": "none"},
    "vault": {"nas": "rw", "ada": "rw", "bob": "rw", "eve": "rw", "": "none"},
    # A guest has no key to encrypt with.
    "safe": {"nas": "rw", "ada": "rw", "bob": "rw", "eve": "rw", "": "none"},
    "lobby": {"nas": "rw", "ada": "rw", "bob": "rw", "eve": "rw", "": "ro"},
    "letterbox": {"nas": "rw", "ada": "rw", "bob": "rw", "eve": "rw", "": "rw"},
    "books": {"nas": "ro", "ada": "rw", "bob": "none", "eve": "ro", "": "none"},
    "desk": {"nas": "rw", "ada": "ro", "bob": "none", "eve": "rw", "": "none"},
    "museum": {"nas": "ro", "ada": "ro", "bob": "ro", "eve": "ro", "": "rw"},
}
KEPT = b"what is in the file that everybody may read" * 100


def password(options, user):
    return {"nas": options.password, "": ""}.get(user, f"password of {user}")


def log_on(options, share, user, commands, *more, **named):
    """smbclient as one of the users, or as a guest."""
    return smbclient(options, commands, *more, share=share, user=user, password=password(options, user), **named)


@contextlib.contextmanager
def client_of(options, share, user, **named):
    """smbprotocol as one of the users."""
    theirs = type(options)(**{**vars(options), "user": user, "password": password(options, user)})
    with Client(theirs, share=share, **named) as client:
        yield client


def listed(options):
    """The names in smbclient's list of shares."""
    output, good = smbclient(options, "", "-gL", options.host)
    expect(good, output)
    return {row.split("|")[1] for row in output.splitlines() if row.startswith(("Disk|", "IPC|"))}


@test()
def the_console_makes_users_and_shares(options, work):
    for user in USERS:
        secret = password(options, user)
        said = ask(options, f"user add {user}", secret, secret)
        expect(f"User {user} can log on." in said, said)
    for share, more in SHARES.items():
        said = ask(options, f"share add {share} 0 {more}")
        equal(said.strip(), f"Share {share} is there.", "the console")
    for line, answer in [
        ("share add ATTIC 0", "There is a share ATTIC already."),
        ("share add x 0 carl=rw", "There is no user carl."),
        ("share add x 0 ada=all", "usage:"),
        ("share add IPC$ 0", "Not done:"),
        ("user add Ada", "There is a user Ada already."),
    ]:
        said = ask(options, line)
        expect(answer in said, f"{line}: {said}")
    for name in ["x", "IPC$"]:
        expect(f"\n{name} " not in ask(options, "share list"), f"{name} was made")
    make_file(f"{work}/kept", 0, 0)
    with open(f"{work}/kept", "wb") as file:
        file.write(KEPT)
    succeed(options, f"put {work}/kept kept; mkdir kept-folder")


@test()
def a_hidden_share_is_served_and_not_listed(options, _work):
    names = listed(options)
    visible = {options.share, options.share2, "IPC$"} | set(SHARES) - {"attic"}
    equal(names, visible, "shares listed to smbclient")
    connection = SMBConnection(options.host, options.host, sess_port=options.port, timeout=20)
    connection.login(options.user, options.password)
    names = {share["shi1_netname"][:-1] for share in connection.listShares()}
    equal(names, visible, "shares listed to impacket")
    connection.close()
    for name in ["attic", "ATTIC"]:
        output = succeed(options, "ls", share=name)
        expect("kept" in output, output)


def may(options, share, user, work):
    """What a user may do on a share, found out by trying; an error where that is neither nothing, reading, nor everything."""
    mine = f"of-{user or 'guest'}-{share}"
    output, good = log_on(options, share, user, f"get kept {work}/read-{mine}")
    if not good and "tree connect failed: " + DENIED in output:
        return "none"
    expect(good and "NT_STATUS" not in output, f"{user!r} on {share}: {output}")
    with open(f"{work}/read-{mine}", "rb") as file:
        equal(file.read(), KEPT, f"{share}'s file as {user!r} gets it")
    made = [f"put {work}/read-{mine} {mine}", f"mkdir {mine}-folder", f"setmode {mine} +h", f"rename {mine} {mine}-moved",
            f"del {mine}-moved", f"rmdir {mine}-folder"]
    output, _ = log_on(options, share, user, "; ".join(made))
    if "NT_STATUS" not in output:
        return "rw"
    # What is there already may not be changed either.
    for command in [made[0], made[1], f"put {work}/read-{mine} kept", "rename kept gone", "del kept", "rmdir kept-folder", "setmode kept +h"]:
        output, _ = log_on(options, share, user, command)
        expect(DENIED in output, f"{user!r} on {share}: {command}: {output}")
    return "ro"


@test(limit=120)
def users_may_what_the_share_says(options, work):
    for share, by_user in ACCESS.items():
        for user, allowed in by_user.items():
            if user:
                equal(may(options, share, user, work), allowed, f"what {user} may on {share}")
    with open(f"{work}/kept", "wb") as file:
        file.write(KEPT)
    succeed(options, f"get kept {work}/again")
    equal(file_hash(f"{work}/again"), file_hash(f"{work}/kept"), "the file that nobody was to change")


@test()
def guests_may_what_the_share_says(options, work):
    for share, by_user in ACCESS.items():
        equal(may(options, share, "", work), by_user[""], f"what a guest may on {share}")
    # Somebody with a wrong name or password is no guest.
    for user, secret in [("nobody-here", ""), ("nobody-here", "x"), ("ada", ""), ("ada", "x")]:
        output, good = smbclient(options, "ls", share="letterbox", user=user, password=secret)
        expect(not good and "NT_STATUS_LOGON_FAILURE" in output, f"{user}: {output}")


@test()
def a_share_to_be_read_refuses_every_change(options, _work):
    """Requests that smbclient does not make: what an open gets, and what can be done with it."""
    with client_of(options, "desk", "ada") as client:
        for access in [0x0000_0002, 0x0000_0004, 0x0000_0100, 0x0001_0000, 0x0004_0000, 0x4000_0000, 0x1000_0000]:
            refuses(NtStatus.STATUS_ACCESS_DENIED, client.open, "kept", CreateDisposition.FILE_OPEN, access=access)
        for disposition in [CreateDisposition.FILE_OVERWRITE, CreateDisposition.FILE_OVERWRITE_IF, CreateDisposition.FILE_SUPERSEDE]:
            refuses(NtStatus.STATUS_ACCESS_DENIED, client.open, "kept", disposition, access=READ)
        refuses(NtStatus.STATUS_ACCESS_DENIED, client.open, "new", CreateDisposition.FILE_CREATE, access=READ)
        refuses(NtStatus.STATUS_ACCESS_DENIED, client.open, "new", CreateDisposition.FILE_OPEN_IF, access=READ)
        refuses((NtStatus.STATUS_ACCESS_DENIED, 0xC000_0022), client.open, "kept", CreateDisposition.FILE_OPEN, access=READ | 0x0001_0000,
                options=CreateOptions.FILE_DELETE_ON_CLOSE)
        # MAXIMUM_ALLOWED and FILE_OPEN_IF give what there is.
        for access in [READ, 0x0200_0000]:
            file = client.open("kept", access=access)
            equal(file.read(0, 9), KEPT[:9], "the file's start")
            refuses(NtStatus.STATUS_ACCESS_DENIED, file.write, b"scribbled", 0)
            refuses(NtStatus.STATUS_ACCESS_DENIED, client.rename, file, "gone")
            information = FileEndOfFileInformation()
            information["end_of_file"] = 1
            refuses(NtStatus.STATUS_ACCESS_DENIED, client.set, file, information)
            information = FileDispositionInformation()
            information["delete_pending"] = True
            refuses(NtStatus.STATUS_ACCESS_DENIED, client.set, file, information)
            information = FileBasicInformation()
            information["file_attributes"] = 2
            refuses(NtStatus.STATUS_ACCESS_DENIED, client.set, file, information)
            file.close()


@test()
def an_encrypted_share_is_for_those_who_can(options, _work):
    # SMB 2 has no encryption.
    for dialect in ["SMB2_02", "SMB2_10"]:
        for share, served in [("vault", False), ("safe", False), ("data", True)]:
            output, good = smbclient(options, "ls", f"-m{dialect}", share=share)
            equal((good, "tree connect failed: " + DENIED in output), (served, not served), f"{share} with {dialect}: {output}")
    # Who signs is told to encrypt with the share, and does.
    for dialect in ["SMB3_00", "SMB3_02", "SMB3_11"]:
        succeed(options, "ls", f"-m{dialect}", "--client-protection=sign", share="vault")
    # Who was told and does not is refused; in the same session another share serves in clear.
    for dialect in [Dialects.SMB_3_0_0, Dialects.SMB_3_1_1]:
        with client_of(options, "vault", "eve", dialect=dialect) as client:
            expect(client.tree.encrypt_data and not client.session.encrypt_data, "the share does not ask for encryption")
            file = client.open("kept")
            client.tree.encrypt_data = False
            refuses(NtStatus.STATUS_ACCESS_DENIED, client.open, "kept", access=READ)
            refuses(NtStatus.STATUS_ACCESS_DENIED, client.query, file, 5)
            client.tree.encrypt_data = True
            equal(file.read(0, 9), KEPT[:9], "the file's start")
            file.close()


@test(limit=90)
def a_listener_learns_nothing_of_an_encrypted_share(options, work):
    """Beside shares in clear: names and bytes of this one are never seen, whoever the client is."""
    names = ["Gehaltsliste", "geheimer-ordner", "verwehrt"]
    make_file(f"{work}/up", 400_000, 77)
    with open(f"{work}/up", "rb") as file:
        data = file.read()
    commands = (f"mkdir {names[1]}; cd {names[1]}; put {work}/up {names[0]}; ls; get {names[0]} {work}/down; rename {names[0]} {names[2]}; "
                f"del {names[2]}; cd ..; rmdir {names[1]}")
    for share in ["vault", "data"]:
        proxy = Proxy(options.host, options.port)
        succeed(options, commands, "--client-protection=sign", share=share, port=proxy.port)
        proxy.close()
        equal(file_hash(f"{work}/down"), file_hash(f"{work}/up"), "hash")
        if share == "vault":
            learns_nothing(proxy, data, names)
        else:
            # He does listen.
            found = in_clear(proxy, data, names)
            expect(names[0].encode("utf-16-le") in found and data[:16] in found, f"only {len(found)} things went by in clear")
    proxy = Proxy(options.host, options.port)
    with client_of(options, "vault", "eve", port=proxy.port) as client:
        file = written_read_and_listed(client, names[0], data)
        refuses(NtStatus.STATUS_OBJECT_NAME_NOT_FOUND, client.open, names[2], CreateDisposition.FILE_OPEN)
        client.rename(file, names[1])
        file.close()
        client.remove(names[1])
    proxy.close()
    learns_nothing(proxy, data, names)


@test()
def a_removed_share_is_gone_and_its_files_stay(options, _work):
    with client_of(options, "letterbox", "eve") as client:
        file = client.open("left behind")
        file.write(b"stays", 0)
        said = ask(options, "share del letterbox", "yes")
        expect("Share letterbox is gone" in said, said)
        try:
            file.read(0, 5)
            raise AssertionError("a handle of the share that is gone still reads")
        except SMBResponseException as error:
            expect(error.status in (NtStatus.STATUS_NETWORK_NAME_DELETED, NtStatus.STATUS_FILE_CLOSED, 0xC000_00C9), hex(error.status))
    output, good = smbclient(options, "ls", share="letterbox")
    expect(not good and "NT_STATUS_BAD_NETWORK_NAME" in output, output)
    expect("letterbox" not in listed(options), "it is still listed")
    with Client(options) as client:
        file = client.open("left behind", CreateDisposition.FILE_OPEN)
        equal(file.read(0, 5), b"stays", "content")
        file.close()


@test()
def all_of_it_is_there_after_a_reboot(options, work):
    def configured():
        return [sorted(ask(options, line).splitlines()) for line in ("share list", "user list")]

    before = configured()
    with contextlib.suppress(AssertionError):
        ask(options, "reboot now", limit=1)
    end = time.monotonic() + 40
    while not smbclient(options, "ls", limit=20)[1]:
        expect(time.monotonic() < end, "it does not come back")
        time.sleep(0.2)
    equal(configured(), before, "shares and users")
    os.makedirs(f"{work}/after")
    for share, user in [("books", "ada"), ("desk", "ada"), ("desk", "bob"), ("lobby", ""), ("data", ""), ("safe", "")]:
        equal(may(options, share, user, f"{work}/after"), ACCESS[share][user], f"what {user!r} may on {share}")
    expect("attic" not in listed(options), "the hidden share is listed")
    output, good = smbclient(options, "ls", "-mSMB2_10", share="vault")
    expect(not good and DENIED in output, output)
    said = ask(options, "user del bob", "yes")
    expect("User bob is gone." in said, said)
    output, good = log_on(options, "data", "bob", "ls")
    expect(not good and "NT_STATUS_LOGON_FAILURE" in output, output)


if __name__ == "__main__":
    main()
