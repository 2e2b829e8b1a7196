"""A file beyond 4 GiB, on a sparse image: one that a PC has left in two pieces, one that a client makes.

`cargo xtask test` runs `before` without the appliance, `during` with its disk, `after` when it is switched off.
"""

import random

from smbprotocol.file_info import FileEndOfFileInformation, FileStandardInformation
from smbprotocol.header import NtStatus
from smbprotocol.open import CreateDisposition, LockFlags, SMB2LockElement, SMB2LockRequest

from exfat import ExFat, Writer
from full_disk_suite import free_bytes
from images import extracted, fsck_exfat, make_disk, run
from pc_disks_suite import SIZE as SMALL
from smbprotocol_suite import READ, Client, refuses
from tap import equal, expect, main, test

GIB = 1 << 30
VOLUME = 20 * GIB
SIZE = 9 * GIB + 12_345
PC_FILE, OWN_FILE, FAR_FILE = "9 GiB of a PC.bin", "9 GiB of a client.bin", "far writes.bin"
PLACES = [0, 3 * GIB - 7, 4 * GIB - 70_000, 5 * GIB, 8 * GIB + GIB // 2 + 3, SIZE - 4000]
LENGTH = 140_001
# Not so far that the zeros between, which the volume has to have in the end, take long; and far.
NEAR = [60 << 20, 5_000_003, 90 << 20, 20 << 20, 60 << 20 | 200_000]
FAR = [4 * GIB - 70_000, 5_000_003, 4 * GIB + 900_000, 20 << 20, 3 * GIB + 5]
FILE_LOCK_CONFLICT, LOCK_NOT_GRANTED = 0xC000_0054, 0xC000_0055


def content(who, place):
    return random.Random(f"{who} at {place}").randbytes(min(LENGTH, SIZE - place))


@test()
def before_the_pc_leaves_a_large_file(options, work):
    volume = f"{work}/volume"
    with open(volume, "wb") as file:
        file.truncate(VOLUME)
    output, code = run("mkfs.exfat", volume)
    equal(code, 0, output)
    pieces = [(place, content("PC", place)) for place in PLACES]
    writer = Writer(volume)
    writer.fill({"small": (b"beside it", 9)}, {PC_FILE: (SIZE, pieces)})
    fsck_exfat(volume)
    make_disk(f"{options.directory}/disk0.img", "gpt", 0, volume)
    with open(f"{options.directory}/disk1.img", "wb") as file:
        file.truncate(SMALL)


def set_size(client, file, size):
    information = FileEndOfFileInformation()
    information["end_of_file"] = size
    client.set(file, information)
    found = client.information(file, FileStandardInformation)
    equal(found["end_of_file"].get_value(), size, "size")
    expect(found["allocation_size"].get_value() >= size, "less is allocated than the file is long")


@test()
def during_clients_use_the_pc_s_file(options, _work):
    with Client(options) as one, Client(options, port=options.port2) as two:
        file = one.open(PC_FILE, CreateDisposition.FILE_OPEN)
        equal(one.information(file, FileStandardInformation)["end_of_file"].get_value(), SIZE, "size")
        for place in reversed(PLACES):
            expected = content("PC", place)
            expect(file.read(place, len(expected)) == expected, f"what the PC wrote at {place} is not there")
        equal(file.read(6 * GIB, 5000), bytes(5000), "what nobody wrote")
        refuses(NtStatus.STATUS_END_OF_FILE, file.read, SIZE, 1)
        # Every other place anew; what is around stays.
        for place in PLACES[1::2]:
            data = content("client", place)[:-10]
            equal(file.write(data, place), len(data), "bytes written")
        file.flush()
        other = two.open(PC_FILE, CreateDisposition.FILE_OPEN, access=READ)
        for number, place in enumerate(PLACES):
            expected = content("PC", place)
            if number % 2:
                expected = content("client", place)[:-10] + expected[-10:]
            expect(other.read(place, len(expected)) == expected, f"at {place} is not what was written")
        equal(other.read(4 * GIB + 100_000, 5000), bytes(5000), "what nobody wrote")
        file.close()
        other.close()


def lock(client, file, offset, flags):
    element = SMB2LockElement()
    element["offset"], element["length"], element["flags"] = offset, 10, flags
    request = SMB2LockRequest()
    request["file_id"] = file.file_id
    request["locks"] = [element]
    client.connection.receive(client.connection.send(request, client.session.session_id, client.tree.tree_connect_id))


@test()
def during_a_client_makes_one(options, _work):
    with Client(options) as one, Client(options, port=options.port2) as two:
        before = free_bytes(one)
        file = one.open(OWN_FILE, CreateDisposition.FILE_CREATE)
        set_size(one, file, SIZE)
        expect(before - free_bytes(one) >= SIZE, "a file of 9 GiB takes no room")
        for place in PLACES:
            expect(not any(file.read(place, 4000)), f"a new file is not zeros at {place}")
        file.write(content("client", 0), 0)
        # A range beyond 4 GiB is not one that has the same 32 bits.
        exclusive = LockFlags.SMB2_LOCKFLAG_EXCLUSIVE_LOCK | LockFlags.SMB2_LOCKFLAG_FAIL_IMMEDIATELY
        other = two.open(OWN_FILE, CreateDisposition.FILE_OPEN)
        lock(one, file, 5 * GIB, exclusive)
        refuses(LOCK_NOT_GRANTED, lock, two, other, 5 * GIB + 9, exclusive)
        refuses(FILE_LOCK_CONFLICT, other.read, 5 * GIB, 1)
        lock(two, other, GIB, exclusive)
        equal(other.read(GIB + 20, 4), bytes(4), "zeros")
        lock(two, other, GIB, LockFlags.SMB2_LOCKFLAG_UNLOCK)
        lock(one, file, 5 * GIB, LockFlags.SMB2_LOCKFLAG_UNLOCK)
        other.close()
        for size in [4 * GIB + 1, 4 * GIB, 4 * GIB - 1, 7 * GIB]:
            set_size(one, file, size)
            refuses(NtStatus.STATUS_END_OF_FILE, file.read, size, 1)
            expect(not any(file.read(size - 3000, 3000)), f"the last bytes of {size} are not zeros")
        expect(file.read(0, LENGTH) == content("client", 0), "the first bytes are lost")
        file.close()
        one.remove(OWN_FILE)
        after = free_bytes(one)
        equal(after, before, "bytes free after the file is gone")
        file = one.open(OWN_FILE, CreateDisposition.FILE_CREATE)
        set_size(one, file, 3 * GIB // 2 + 1)
        file.write(content("client", 1), 0)
        file.close()


@test(limit=120)
def during_a_client_writes_far_behind_the_valid_data(options, _work):
    """In no order; what is between stays zeros, also where another file's data was."""
    with Client(options) as one, Client(options, port=options.port2) as two:
        old = one.open("old", CreateDisposition.FILE_CREATE)
        for at in range(0, 8 << 20, 1 << 18):
            old.write(b"\xa5" * (1 << 18), at)
        old.flush()
        old.close()
        one.remove("old")
        file = one.open(FAR_FILE, CreateDisposition.FILE_CREATE)
        set_size(one, file, 5 * GIB)
        for place in FAR if options.full else NEAR:
            file.write(content("far", place), place)
        file.flush()
        other = two.open(FAR_FILE, CreateDisposition.FILE_OPEN, access=READ)
        for start, expected in far_pieces(options):
            expect(other.read(start, len(expected)) == expected, f"at {start} is not what was written, or not zeros")
        other.close()
        file.close()


def far_pieces(options):
    """What is to be found at and between the places."""
    found = []
    for place in FAR if options.full else NEAR:
        data = content("far", place)
        found += [(place, data), (place + len(data), bytes(9000)), (max(place - 9000, 0), bytes(min(9000, place)))]
    return found + [(2 * GIB - 3, bytes(6)), (5 * GIB - 8000, bytes(8000))]


@test(limit=120)
def after_the_pc_finds_the_same(options, work):
    image = extracted(f"{options.directory}/disk0.img", work)
    fsck_exfat(image)
    volume = ExFat(image)
    for number, place in enumerate(PLACES):
        expected = content("PC", place)
        if number % 2:
            expected = content("client", place)[:-10] + expected[-10:]
        expect(volume.read(PC_FILE, place, len(expected)) == expected, f"at {place} is not what was written")
    expect(volume.read(PC_FILE, 4 * GIB + 100_000, 5000) == bytes(5000), "there is what nobody wrote")
    equal(volume.read(PC_FILE, SIZE - 5, 10), content("PC", PLACES[5])[-5:], "the end")
    equal(volume.read(OWN_FILE, 0, LENGTH), content("client", 1), "the client's file")
    equal(volume.read(OWN_FILE, 3 * GIB // 2 - 3, 10), bytes(4), "the end of the client's file")
    for start, expected in far_pieces(options):
        expect(volume.read(FAR_FILE, start, len(expected)) == expected, f"at {start} is not what was written, or not zeros")
    equal(volume.read("small", 0, 20), b"beside it", "the file beside")


if __name__ == "__main__":
    main()
