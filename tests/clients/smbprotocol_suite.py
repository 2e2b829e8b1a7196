"""smbprotocol: requests one by one, with a look at what comes back."""

import struct
import uuid

from smbprotocol.connection import Connection, Dialects
from smbprotocol.create_contexts import SMB2CreateContextRequest
from smbprotocol.exceptions import SMBException, SMBResponseException
from smbprotocol.file_info import (
    FileAllInformation, FileBasicInformation, FileDispositionInformation, FileEndOfFileInformation, FileInformationClass,
    FileInternalInformation, FileRenameInformation, FileStandardInformation, InfoType)
from smbprotocol.header import NtStatus
from smbprotocol.open import (
    CreateDisposition, CreateOptions, FileAttributes, FilePipePrinterAccessMask, ImpersonationLevel,
    Open, SMB2QueryInfoRequest, SMB2QueryInfoResponse, SMB2SetInfoRequest, ShareAccess)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from tap import equal, expect, main, test

SHARE_ALL = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE
# Spelled out: with GENERIC_ALL servers differ in what FILE_DELETE_ON_CLOSE gets.
FILE_ALL = 0x001F_01FF
READ = FilePipePrinterAccessMask.GENERIC_READ


class Client:
    """A connection, a session and a tree."""

    def __init__(self, options, dialect=None, port=None, share=None, encrypt=False, tree=True):
        self.connection = Connection(uuid.uuid4(), options.host, port or options.port, require_signing=True)
        self.connection.connect(dialect, timeout=30)
        self.session = Session(self.connection, options.user, options.password, require_encryption=encrypt)
        self.session.connect()
        self.tree = TreeConnect(self.session, rf"\\{options.host}\{share or options.share}")
        if tree:
            self.tree.connect(require_secure_negotiate=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.connection.disconnect(close=True)
        except SMBException:
            self.connection.disconnect(close=False)

    def open(self, name, disposition=CreateDisposition.FILE_OPEN_IF, access=FILE_ALL, share=SHARE_ALL, options=0,
             attributes=FileAttributes.FILE_ATTRIBUTE_NORMAL):
        handle = Open(self.tree, name)
        handle.create(ImpersonationLevel.Impersonation, access, attributes, share, disposition, options)
        return handle

    def folder(self, name, disposition=CreateDisposition.FILE_OPEN_IF, options=0):
        return self.open(name, disposition, options=options | CreateOptions.FILE_DIRECTORY_FILE)

    def remove(self, name):
        self.open(name, CreateDisposition.FILE_OPEN, options=CreateOptions.FILE_DELETE_ON_CLOSE).close()

    def query(self, handle, kind, info_type=InfoType.SMB2_0_INFO_FILE, length=4096):
        """The raw answer to a QUERY_INFO."""
        request = SMB2QueryInfoRequest()
        request["info_type"] = info_type
        request["file_info_class"] = kind
        request["output_buffer_length"] = length
        request["file_id"] = handle.file_id
        sent = self.connection.send(request, self.session.session_id, self.tree.tree_connect_id)
        response = SMB2QueryInfoResponse()
        response.unpack(self.connection.receive(sent)["data"].get_value())
        return response["buffer"].get_value()

    def information(self, handle, structure):
        """An information class, parsed."""
        result = structure()
        result.unpack(self.query(handle, structure.INFO_CLASS))
        return result

    def set(self, handle, information):
        """A SET_INFO of a file information class."""
        request = SMB2SetInfoRequest()
        request["info_type"] = information.INFO_TYPE
        request["file_info_class"] = information.INFO_CLASS
        request["file_id"] = handle.file_id
        request["buffer"] = information
        sent = self.connection.send(request, self.session.session_id, self.tree.tree_connect_id)
        self.connection.receive(sent)

    def rename(self, handle, name, replace=False):
        information = FileRenameInformation()
        information["replace_if_exists"] = replace
        information["file_name"] = name
        self.set(handle, information)


def refuses(status, call, *arguments, **named):
    """The call must end with one of these statuses."""
    wanted = status if isinstance(status, tuple) else (status,)
    try:
        call(*arguments, **named)
    except SMBResponseException as error:
        expect(error.status in wanted, f"status {error.status:#x}, expected {[hex(one) for one in wanted]}")
        return
    raise AssertionError(f"succeeded, expected {[hex(one) for one in wanted]}")


def dialect(number, name):
    @test()
    def check(options, _work):
        with Client(options, number) as client:
            equal(client.connection.dialect, number, "dialect")
            expect(client.session.signing_required, "the session does not sign")
            file = client.open("dialect", options=CreateOptions.FILE_DELETE_ON_CLOSE)
            data = bytes(range(256)) * 1024
            file.write(data)
            expect(file.read(0, len(data)) == data, "the bytes came back changed")
            file.close()

    check.__name__ = f"smbprotocol_dialect_{name}"


dialect(Dialects.SMB_2_1_0, "2_1")
dialect(Dialects.SMB_3_0_0, "3_0")
dialect(Dialects.SMB_3_0_2, "3_0_2")
dialect(Dialects.SMB_3_1_1, "3_1_1")


@test()
def validate_negotiate(options, _work):
    """3.0.2 clients check afterwards that nobody changed their NEGOTIATE."""
    with Client(options, Dialects.SMB_3_0_2, tree=False) as client:
        client.tree.connect(require_secure_negotiate=True)


@test()
def large_reads_and_writes(options, _work):
    """Requests of the largest size the server offers, which cost many credits."""
    with Client(options) as client:
        size = min(client.connection.max_write_size, client.connection.max_read_size, 1 << 20)
        expect(size >= 65_536, f"the server offers {size}")
        file = client.open("large", options=CreateOptions.FILE_DELETE_ON_CLOSE)
        pattern = bytes(range(251)) * (size // 251 + 1)
        for number in range(4):
            equal(file.write(pattern[number:number + size], number * size), size, "bytes written")
        file.flush()
        for number in (3, 0, 2, 1):
            expect(file.read(number * size, size) == pattern[number:number + size], f"block {number} differs")
        file.close()


@test()
def sparse_growth_and_truncation(options, _work):
    with Client(options) as client:
        file = client.open("growth", options=CreateOptions.FILE_DELETE_ON_CLOSE)
        file.write(b"end", 1_000_000)
        expect(file.read(0, 65_536) == bytes(65_536), "the gap is not zeros")
        equal(file.read(999_998, 5), b"\0\0end", "tail")
        information = FileEndOfFileInformation()
        information["end_of_file"] = 10
        client.set(file, information)
        equal(client.information(file, FileStandardInformation)["end_of_file"].get_value(), 10, "size")
        refuses(NtStatus.STATUS_END_OF_FILE, file.read, 10, 10)
        information["end_of_file"] = 5000
        client.set(file, information)
        expect(file.read(0, 5000) == bytes(5000), "old bytes came back")
        file.close()


@test()
def share_modes(options, _work):
    with Client(options) as one, Client(options, port=options.port2) as two:
        file = one.open("shared", share=ShareAccess.FILE_SHARE_READ)
        refuses(NtStatus.STATUS_SHARING_VIOLATION, two.open, "shared", access=FILE_ALL)
        refuses(NtStatus.STATUS_SHARING_VIOLATION, two.open, "shared", access=READ, share=ShareAccess.FILE_SHARE_READ)
        reader = two.open("SHARED", access=READ)
        reader.close()
        file.close()
        two.remove("shared")


@test()
def dispositions(options, _work):
    with Client(options) as client:
        refuses(NtStatus.STATUS_OBJECT_NAME_NOT_FOUND, client.open, "disposition", CreateDisposition.FILE_OPEN)
        refuses(NtStatus.STATUS_OBJECT_NAME_NOT_FOUND, client.open, "disposition", CreateDisposition.FILE_OVERWRITE)
        refuses(NtStatus.STATUS_OBJECT_PATH_NOT_FOUND, client.open, r"nowhere\disposition", CreateDisposition.FILE_CREATE)
        file = client.open("disposition", CreateDisposition.FILE_CREATE)
        file.write(b"content")
        file.close()
        refuses(NtStatus.STATUS_OBJECT_NAME_COLLISION, client.open, "DISPOSITION", CreateDisposition.FILE_CREATE)
        file = client.open("disposition", CreateDisposition.FILE_OVERWRITE_IF)
        equal(client.information(file, FileStandardInformation)["end_of_file"].get_value(), 0, "size")
        file.close()
        refuses(NtStatus.STATUS_NOT_A_DIRECTORY, client.folder, "disposition", CreateDisposition.FILE_OPEN)
        client.folder("disposition-folder", CreateDisposition.FILE_CREATE).close()
        refuses(NtStatus.STATUS_FILE_IS_A_DIRECTORY, client.open, "disposition-folder", CreateDisposition.FILE_OPEN,
                options=CreateOptions.FILE_NON_DIRECTORY_FILE)
        client.remove("disposition-folder")
        client.remove("disposition")


@test()
def renames(options, _work):
    with Client(options) as client:
        client.folder("rename-folder").close()
        client.open("rename-other").close()
        file = client.open("rename-one")
        file.write(b"kept")
        refuses(NtStatus.STATUS_OBJECT_NAME_COLLISION, client.rename, file, "rename-other")
        client.rename(file, "rename-other", replace=True)
        client.rename(file, r"rename-folder\Größe 日本 😀")
        equal(file.read(0, 4), b"kept", "content")
        file.close()
        refuses(NtStatus.STATUS_OBJECT_NAME_NOT_FOUND, client.open, "rename-other", CreateDisposition.FILE_OPEN)
        folder = client.folder("rename-folder")
        client.rename(folder, "rename-moved")
        folder.close()
        file = client.open("rename-moved\\GRÖSSE 日本 😀".replace("SS", "ß"), CreateDisposition.FILE_OPEN)
        equal(file.read(0, 4), b"kept", "content")
        file.close()
        client.remove("rename-moved\\Größe 日本 😀")
        client.remove("rename-moved")


@test()
def deletion(options, _work):
    with Client(options) as client:
        client.folder("deletion").close()
        client.open(r"deletion\file").close()
        folder = client.folder("deletion")
        information = FileDispositionInformation()
        information["delete_pending"] = True
        refuses(NtStatus.STATUS_DIRECTORY_NOT_EMPTY, client.set, folder, information)
        first = client.open(r"deletion\file")
        second = client.open(r"deletion\file")
        client.set(first, information)
        refuses(NtStatus.STATUS_DELETE_PENDING, client.open, r"deletion\file", CreateDisposition.FILE_OPEN)
        first.close()
        second.close()
        refuses(NtStatus.STATUS_OBJECT_NAME_NOT_FOUND, client.open, r"deletion\file", CreateDisposition.FILE_OPEN)
        client.set(folder, information)
        folder.close()
        refuses(NtStatus.STATUS_OBJECT_NAME_NOT_FOUND, client.folder, "deletion", CreateDisposition.FILE_OPEN)


@test()
def basic_information(options, _work):
    with Client(options) as client:
        file = client.open("basic")
        information = FileBasicInformation()
        # 2001-02-03 04:05:06 UTC and an even second: FAT32 keeps writes to two seconds.
        information["creation_time"] = information["last_write_time"] = 126_256_395_060_000_000
        information["file_attributes"] = FileAttributes.FILE_ATTRIBUTE_HIDDEN | FileAttributes.FILE_ATTRIBUTE_ARCHIVE
        client.set(file, information)
        file.close()
        file = client.open("basic", CreateDisposition.FILE_OPEN)
        found = client.information(file, FileBasicInformation)
        for field in ["creation_time", "last_write_time", "file_attributes"]:
            equal(found[field].get_value(), information[field].get_value(), field)
        file.close()
        client.remove("basic")


@test()
def information_classes(options, _work):
    """The classes that common clients ask for are answered with plausible lengths."""
    with Client(options) as client:
        file = client.open("classes", options=CreateOptions.FILE_DELETE_ON_CLOSE)
        file.write(b"12345")
        everything = client.information(file, FileAllInformation)
        equal(everything["standard_information"]["end_of_file"].get_value(), 5, "size")
        expect(client.information(file, FileInternalInformation)["index_number"].get_value() != 0, "no file id")
        for kind, least in [(FileInformationClass.FILE_NETWORK_OPEN_INFORMATION, 56), (35, 8), (22, 0), (7, 4), (14, 8), (16, 4), (17, 4)]:
            try:
                answer = client.query(file, kind)
            except SMBResponseException as error:
                raise AssertionError(f"class {kind}: {error.status:#x}") from error
            expect(len(answer) >= least, f"class {kind}: {len(answer)} bytes")
        # File system: volume, size, device, attribute, full size.
        for kind, least in [(1, 18), (3, 24), (4, 8), (5, 12), (7, 32)]:
            answer = client.query(file, kind, InfoType.SMB2_0_INFO_FILESYSTEM)
            expect(len(answer) >= least, f"file system class {kind}: {len(answer)} bytes")
        size = client.query(file, 3, InfoType.SMB2_0_INFO_FILESYSTEM)
        total, free = int.from_bytes(size[:8], "little"), int.from_bytes(size[8:16], "little")
        expect(0 < free <= total, f"{free} of {total} units free")
        refuses((NtStatus.STATUS_INFO_LENGTH_MISMATCH, 0xC0000023), client.query, file, 5, length=4)
        file.close()


@test(limit=120)
def directories_of_many(options, _work):
    """A directory that takes several answers to list, with patterns and restarts."""
    with Client(options) as client:
        client.folder("many").close()
        names = {f"entry number {number} ü" for number in range(300)}
        for name in names:
            client.open(f"many\\{name}").close()
        folder = client.folder("many")

        def listed(pattern):
            found, flags = [], 1
            while True:
                try:
                    entries = folder.query_directory(
                        pattern, FileInformationClass.FILE_ID_BOTH_DIRECTORY_INFORMATION, flags=flags, max_output=8192)
                except SMBResponseException as error:
                    expect(error.status in (NtStatus.STATUS_NO_MORE_FILES, NtStatus.STATUS_NO_SUCH_FILE), hex(error.status))
                    return found
                flags = 0
                found += [entry["file_name"].get_value().decode("utf-16-le") for entry in entries]

        found = listed("*")
        equal(len(found), len(set(found)), "names listed twice")
        equal(set(found) - {".", ".."}, names, "names")
        equal(set(listed("*no such*")), set(), "nothing fits")
        equal(set(listed("entry number 29? ü")), {f"entry number 29{digit} ü" for digit in range(10)}, "a pattern")
        equal(listed("ENTRY NUMBER 5 Ü"), ["entry number 5 ü"], "one name in other case")
        folder.close()
        for name in names:
            client.remove(f"many\\{name}")
        client.remove("many")


@test()
def compounds(options, _work):
    """CREATE, QUERY_INFO and CLOSE in one frame, related."""
    with Client(options) as client:
        handle = Open(client.tree, "compound")
        request = SMB2QueryInfoRequest()
        request["info_type"] = InfoType.SMB2_0_INFO_FILE
        request["file_info_class"] = FileInformationClass.FILE_STANDARD_INFORMATION
        request["output_buffer_length"] = 24
        request["file_id"] = b"\xff" * 16
        create, parse_create = handle.create(
            ImpersonationLevel.Impersonation, FILE_ALL, FileAttributes.FILE_ATTRIBUTE_NORMAL, SHARE_ALL,
            CreateDisposition.FILE_OPEN_IF, CreateOptions.FILE_DELETE_ON_CLOSE, send=False)
        write, parse_write = handle.write(b"seven b", 0, send=False)
        close, parse_close = handle.close(send=False)
        sent = client.connection.send_compound(
            [create, write, request, close], client.session.session_id, client.tree.tree_connect_id, related=True)
        parse_create(sent[0])
        equal(parse_write(sent[1]), 7, "bytes written")
        response = SMB2QueryInfoResponse()
        response.unpack(client.connection.receive(sent[2])["data"].get_value())
        information = FileStandardInformation()
        information.unpack(response["buffer"].get_value())
        equal(information["end_of_file"].get_value(), 7, "size")
        parse_close(sent[3])


@test()
def what_macos_asks(options, _work):
    """The AAPL context is answered with what is there, and the files that macOS keeps beside others are files."""
    with Client(options) as client:
        asked = SMB2CreateContextRequest()
        asked["buffer_name"] = b"AAPL"
        asked["buffer_data"] = struct.pack("<LLQQ", 1, 0, 7, 7)
        root = Open(client.tree, "")
        answers = root.create(
            ImpersonationLevel.Impersonation, READ, FileAttributes.FILE_ATTRIBUTE_DIRECTORY, SHARE_ALL, CreateDisposition.FILE_OPEN,
            CreateOptions.FILE_DIRECTORY_FILE, create_contexts=[asked])
        root.close()
        equal(len(answers), 1, "contexts in the answer")
        command, _, parts, server, volume, _, length = struct.unpack_from("<LLQQQLL", answers[0])
        equal((command, parts, server, volume), (1, 7, 0, 4), "command, parts, server's and volume's capabilities")
        equal(answers[0][40:].decode("utf-16-le"), "NAS", "model")
        equal(length, len(answers[0]) - 40, "length of the model's name")
        names = ["._picture.jpg", ".DS_Store", ".TemporaryItems", "Icon\uf00d", "a\uf022b"]
        for name in names:
            file = client.open(name)
            file.write(b"Mac", 0)
            file.close()
        folder = client.folder("")
        found = {entry["file_name"].get_value().decode("utf-16-le")
                 for entry in folder.query_directory("*", FileInformationClass.FILE_NAMES_INFORMATION)}
        folder.close()
        expect(set(names) <= found, f"{set(names) - found} are not listed")
        for name in names:
            client.remove(name)


@test()
def names_that_cannot_be(options, _work):
    with Client(options) as client:
        for name in ['what?', 'a*b', 'a<b', 'a"b', 'a|b', "tab\there"]:
            refuses(NtStatus.STATUS_OBJECT_NAME_INVALID, client.open, name)
        refuses((NtStatus.STATUS_OBJECT_NAME_INVALID, NtStatus.STATUS_OBJECT_PATH_SYNTAX_BAD, NtStatus.STATUS_INVALID_PARAMETER,
                 NtStatus.STATUS_OBJECT_NAME_NOT_FOUND), client.open, r"..\outside")
        refuses((NtStatus.STATUS_OBJECT_NAME_INVALID, NtStatus.STATUS_OBJECT_NAME_NOT_FOUND), client.open, "x" * 256)
        longest = "y" * 255
        client.open(longest).close()
        client.remove(longest)


@test()
def stale_ids(options, _work):
    with Client(options) as client:
        file = client.open("stale")
        other = client.open("stale", options=CreateOptions.FILE_DELETE_ON_CLOSE)
        identity = file.file_id
        file.close()
        refuses(NtStatus.STATUS_FILE_CLOSED, lambda: client.query(file, 5) if identity else None)
        other.close()
        number = client.tree.tree_connect_id
        client.tree.disconnect()
        client.tree.tree_connect_id = number
        client.session.tree_connect_table[number] = client.tree
        refuses((NtStatus.STATUS_NETWORK_NAME_DELETED, 0xC00000C9), client.open, "stale")


@test()
def a_lost_connection_closes_its_files(options, _work):
    client = Client(options)
    client.open("lost", share=0)
    client.connection.transport.close()
    with Client(options) as other:
        for _ in range(50):
            try:
                other.open("lost").close()
                break
            except SMBResponseException as error:
                expect(error.status == NtStatus.STATUS_SHARING_VIOLATION, hex(error.status))
        else:
            raise AssertionError("the file of a lost connection stays open")
        other.remove("lost")


@test()
def handle_rights_are_checked(options, _work):
    """A handle without the right to read does not read, one without the right to write does not write."""
    with Client(options) as client:
        client.open("rights").close()
        reader = client.open("rights", access=READ)
        refuses(NtStatus.STATUS_ACCESS_DENIED, reader.write, b"x")
        writer = client.open("rights", access=FilePipePrinterAccessMask.FILE_WRITE_DATA)
        refuses(NtStatus.STATUS_ACCESS_DENIED, writer.read, 0, 1)
        refuses(NtStatus.STATUS_ACCESS_DENIED, client.rename, reader, "rights-2")
        reader.close()
        writer.close()
        client.remove("rights")


if __name__ == "__main__":
    main()
