"""Operations to be counted, for `cargo xtask bench`.

Before and after each run of equal operations it says so on standard output (`start NAME COUNT`, `end NAME`) and waits
for a line on standard input: xtask looks at the guest's instruction counter then. Requests are not signed.
"""

import random
import sys
import uuid

from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBResponseException
from smbprotocol.file_info import FileInformationClass
from smbprotocol.open import CreateDisposition, CreateOptions, FileAttributes, ImpersonationLevel, Open, ShareAccess
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from tap import arguments

FILE_ALL = 0x001F_01FF


def mark(line):
    print(line, flush=True)
    if not sys.stdin.readline():
        sys.exit(1)


class Counted:
    """The operations of a `with` block are counted as `count` of `name`."""

    def __init__(self, name, count):
        self.name, self.count = name, count

    def __enter__(self):
        mark(f"start {self.name} {self.count}")

    def __exit__(self, kind, *_):
        if kind is None:
            mark(f"end {self.name}")


def log_on(options):
    connection = Connection(uuid.uuid4(), options.host, options.port, require_signing=False)
    connection.connect(timeout=30)
    session = Session(connection, options.user, options.password, require_encryption=False)
    session.connect()
    if session.signing_required:
        raise SystemExit("the server requires signing; the bench counts unsigned requests")
    tree = TreeConnect(session, rf"\\{options.host}\{options.share}")
    tree.connect(require_secure_negotiate=False)
    return connection, tree


def opened(tree, name, disposition=CreateDisposition.FILE_OPEN_IF, options=0):
    handle = Open(tree, name)
    share = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE
    handle.create(ImpersonationLevel.Impersonation, FILE_ALL, FileAttributes.FILE_ATTRIBUTE_NORMAL, share, disposition, options)
    return handle


def listed(tree, name, count):
    folder = opened(tree, name, CreateDisposition.FILE_OPEN, CreateOptions.FILE_DIRECTORY_FILE)
    found = 0
    flags = 1
    while True:
        try:
            found += len(folder.query_directory(
                "*", FileInformationClass.FILE_ID_BOTH_DIRECTORY_INFORMATION, flags=flags, max_output=65_536))
        except SMBResponseException:
            break
        flags = 0
    folder.close()
    if found != count + 2:
        raise SystemExit(f"{found} entries listed, not {count + 2}")


def fill_folder(connection, tree, folder, count):
    """Makes `count` empty files, many in a request."""
    batch = 20
    for start in range(0, count, batch):
        handles = [Open(tree, f"{folder}\\file {number:05}") for number in range(start, start + batch)]
        for step in ("create", "close"):
            messages = []
            for handle in handles:
                if step == "create":
                    messages.append(handle.create(
                        ImpersonationLevel.Impersonation, FILE_ALL, FileAttributes.FILE_ATTRIBUTE_NORMAL,
                        ShareAccess.FILE_SHARE_READ, CreateDisposition.FILE_CREATE, 0, send=False))
                else:
                    messages.append(handle.close(send=False))
            requests = connection.send_compound(
                [message for message, _ in messages], tree.session.session_id, tree.tree_connect_id)
            for request, (_, unpack) in zip(requests, messages):
                unpack(request)


def large_directory(connection, tree, block):
    """What names cost among ten thousand."""
    folder, count, some = "bench-10000", 10_000, 200
    opened(tree, folder, options=CreateOptions.FILE_DIRECTORY_FILE).close()
    fill_folder(connection, tree, folder, count)
    with Counted("open-close-10000", some):
        for number in range(0, count, count // some):
            opened(tree, f"{folder}\\file {number:05}", CreateDisposition.FILE_OPEN).close()
    with Counted("create-write-close-10000", some):
        for number in range(some):
            file = opened(tree, f"{folder}\\more {number:05}", CreateDisposition.FILE_CREATE)
            file.write(block)
            file.close()
    with Counted("delete-10000", some):
        for number in range(some):
            opened(tree, f"{folder}\\more {number:05}", CreateDisposition.FILE_OPEN, CreateOptions.FILE_DELETE_ON_CLOSE).close()


def large_file(tree, generator):
    """Reads of a file that is larger than the cache, in order and not."""
    size, count = 1 << 30, 500
    file = opened(tree, "bench-1g")
    data = generator.randbytes(1 << 20)
    for offset in range(0, size, 1 << 20):
        file.write(data, offset)
    file.flush()
    with Counted("read-4k-sequential", count):
        for number in range(count):
            file.read(number * 4096, 4096)
    places = [generator.randrange(size // 4096) * 4096 for _ in range(count)]
    with Counted("read-4k-random", count):
        for place in places:
            file.read(place, 4096)
    file.close()


def main():
    options = arguments()
    generator = random.Random(5)
    connection, tree = log_on(options)

    size = 16 << 20
    file = opened(tree, "bench-file")
    for offset in range(0, size, 1 << 20):
        file.write(generator.randbytes(1 << 20), offset)
    file.flush()
    places = [generator.randrange(size // 4096) * 4096 for _ in range(1000)]
    for place in places:
        file.read(place, 4096)
    with Counted("read-4k", len(places)):
        for place in places:
            file.read(place, 4096)
    with Counted("write-flush-byte", size):
        for offset in range(0, size, 1 << 20):
            file.write(bytes(1 << 20), offset)
        file.flush()
    other = opened(tree, "bench-other")
    for offset in range(0, 64 << 20, 1 << 20):
        other.write(bytes(1 << 20), offset)
    with Counted("write-flush", 50):
        for place in places[:50]:
            file.write(bytes(4096), place)
            file.flush()
    other.close()
    file.close()

    with Counted("open-close", 300):
        for _ in range(300):
            opened(tree, "bench-file", CreateDisposition.FILE_OPEN).close()
    with Counted("open-read-close", 300):
        for place in places[:300]:
            file = opened(tree, "bench-file", CreateDisposition.FILE_OPEN)
            file.read(place, 4096)
            file.close()

    opened(tree, "bench-folder", options=CreateOptions.FILE_DIRECTORY_FILE).close()
    block = generator.randbytes(1024)
    count = 500
    with Counted("create-write-close", count):
        for number in range(count):
            file = opened(tree, f"bench-folder\\file {number:05}", CreateDisposition.FILE_CREATE)
            file.write(block)
            file.close()
    listed(tree, "bench-folder", count)
    with Counted("list-entry", count):
        listed(tree, "bench-folder", count)
    with Counted("delete", count):
        for number in range(count):
            opened(tree, f"bench-folder\\file {number:05}", CreateDisposition.FILE_OPEN, CreateOptions.FILE_DELETE_ON_CLOSE).close()
    for name in ["bench-folder", "bench-file", "bench-other"]:
        opened(tree, name, CreateDisposition.FILE_OPEN, CreateOptions.FILE_DELETE_ON_CLOSE).close()
    large_directory(connection, tree, block)
    large_file(tree, generator)
    connection.disconnect(close=True)


if __name__ == "__main__":
    main()
