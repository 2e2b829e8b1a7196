"""Disk images as a PC makes and reads them: partition tables, and the programs that know file systems."""

import os
import struct
import subprocess
import uuid
import zlib

from tap import expect

SECTOR = 512
# Where Windows begins the first partition, and what it puts before it in a GPT.
FIRST = 1 << 20
BASIC_DATA = uuid.UUID("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7")
MICROSOFT_RESERVED = uuid.UUID("E3C9E316-0B5C-4DB8-817D-F92DF00215AE")


def run(*words):
    """Output and exit code of a program."""
    environment = dict(os.environ, LC_ALL="C.UTF-8", PATH=os.environ["PATH"] + ":/usr/sbin:/sbin", MTOOLS_SKIP_CHECK="1")
    result = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=240, env=environment, check=False)
    return result.stdout.decode("utf-8", "replace"), result.returncode


def fsck_exfat(image):
    """What fsck.exfat says of a file system in which it finds nothing wrong."""
    output, code = run("fsck.exfat", "-n", image)
    expect(code == 0 and "clean" in output, output)
    return output


def partition(disk):
    """Offset and length in bytes of the disk's largest partition, from its MBR or GPT; the whole disk without one."""
    size = os.path.getsize(disk)
    with open(disk, "rb") as file:
        sector = file.read(512)
        found = []
        for entry in range(446, 510, 16):
            kind, start, length = sector[entry + 4], *struct.unpack_from("<II", sector, entry + 8)
            if sector[510:] == b"\x55\xaa" and kind not in (0, 0xEE) and start and sector[:3] not in (b"\xeb\x76\x90", b"\xeb\x58\x90"):
                found.append((length * 512, start * 512))
        file.seek(512)
        header = file.read(92)
        if header[:8] == b"EFI PART":
            table, count, entry_size = struct.unpack_from("<QII", header, 72)
            file.seek(table * 512)
            entries = file.read(count * entry_size)
            for at in range(0, len(entries), entry_size):
                if any(entries[at:at + 16]):
                    first, last = struct.unpack_from("<QQ", entries, at + 32)
                    found.append(((last - first + 1) * 512, first * 512))
    if not found:
        return 0, size
    length, start = max(found)
    return start, length


def copy(source, start, target, place, length):
    """Copies a part of one file into another, without its holes, which are to be zeros there already."""
    with open(source, "rb") as old, open(target, "r+b") as new:
        at, end = start, start + length
        while at < end:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            stop = min(os.lseek(old.fileno(), at, os.SEEK_HOLE), end)
            old.seek(at)
            new.seek(place + at - start)
            while at < stop:
                piece = old.read(min(stop - at, 1 << 20))
                new.write(piece)
                at += len(piece)


def extracted(disk, work):
    """The partition in a file of its own."""
    start, length = partition(disk)
    expect(start + length <= os.path.getsize(disk), "the partition reaches beyond the disk")
    target = f"{work}/partition.img"
    with open(target, "wb") as file:
        file.truncate(length)
    copy(disk, start, target, 0, length)
    return target


def master_boot_record(kind, start, length):
    """A table with one partition, in bytes; larger places than it can say are cut to what it can."""
    count = min(length // SECTOR, 0xFFFF_FFFF)
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start // SECTOR, count)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def guid_partition_table(disk, partitions):
    """Writes both copies of a table with `partitions`, each a type, first byte and length."""
    size = os.path.getsize(disk) // SECTOR
    entries = b"".join(
        kind.bytes_le + uuid.uuid5(kind, str(start)).bytes_le
        + struct.pack("<QQQ", start // SECTOR, (start + length) // SECTOR - 1, 0) + "Basic data partition".encode("utf-16-le").ljust(72, b"\0")
        for kind, start, length in partitions).ljust(128 * 128, b"\0")

    def header(here, other, table):
        fields = [b"EFI PART", 0x10000, 92, 0, 0, here, other, 34, size - 34, uuid.uuid5(BASIC_DATA, disk).bytes_le, table, 128, 128,
                  zlib.crc32(entries)]
        layout = "<8sIIIIQQQQ16sQIII"
        fields[3] = zlib.crc32(struct.pack(layout, *fields))
        return struct.pack(layout, *fields).ljust(SECTOR, b"\0")

    with open(disk, "r+b") as file:
        file.write(master_boot_record(0xEE, SECTOR, (size - 1) * SECTOR) + header(1, size - 1, 2) + entries)
        file.seek((size - 33) * SECTOR)
        file.write(entries + header(size - 1, 1, size - 33))


def make_disk(disk, table, kind, volume):
    """A disk with a partition table (`mbr`, `gpt`, or none at all) and the file system of the image `volume` in its partition."""
    length = os.path.getsize(volume)
    start = {"mbr": FIRST, "gpt": FIRST + (16 << 20), "": 0}[table]
    with open(disk, "wb") as file:
        file.truncate(start + length + (FIRST if table == "gpt" else 0))
        if table == "mbr":
            file.write(master_boot_record(kind, start, length))
    if table == "gpt":
        guid_partition_table(disk, [(MICROSOFT_RESERVED, 34 * SECTOR, start - 34 * SECTOR), (BASIC_DATA, start, length)])
    copy(volume, 0, disk, start, length)
