"""Disks that a PC has divided, formatted and filled: the appliance serves and changes them, and the PC finds what clients left there.

`cargo xtask test` runs `before` without the appliance, `during` with its disks in it, `after` when it is switched off; and
all of that for each round.
"""

import json
import os
import random
import shutil
import unicodedata

from smbprotocol.file_info import FileEndOfFileInformation
from smbprotocol.open import CreateDisposition

from exfat import ExFat, Writer
from images import extracted, fsck_exfat, make_disk, run
from samba import succeed
from smbprotocol_suite import Client
from tap import equal, expect, main, test
from tree import difference, make_tree, tree_hashes

# Round -> the two disks: file system, partition table, the partition's type in an MBR.
ROUNDS = [
    [("fat32", "mbr", 0x0C), ("exfat", "gpt", 0)],
    [("exfat", "mbr", 0x07), ("fat32", "", 0)],
]
SIZE = 48 << 20
# A file in pieces, one whose end is not valid data, one of neither kind, on exFAT; the same content on FAT32.
PIECES, HALF_VALID, EMPTY = "in pieces.bin", "half valid.bin", "empty"
VALID = 70_001


def content(name, size):
    return random.Random(f"a PC's {name}").randbytes(size)


def plain(root):
    """Names without what mtools cannot write: letters beyond the Basic Multilingual Plane, accents apart from their letter;
    nor as short names, which have no such letters in small."""
    for place, folders, files in os.walk(root, topdown=False):
        for name in folders + files:
            simple = "".join(letter if letter <= "\uffff" else "☺" for letter in unicodedata.normalize("NFC", name))
            if not simple.isascii() and len(os.path.splitext(simple)[0]) <= 8:
                simple = f"longer {simple}"
            if simple != name:
                os.rename(os.path.join(place, name), os.path.join(place, simple))


def pc_tree(root):
    """What the PC puts on a disk."""
    os.mkdir(root)
    make_tree(f"{root}/from the PC", 80, 9, seed=3)
    plain(root)
    for name, data in [
        (PIECES, content(PIECES, 333_333)), (HALF_VALID, content(HALF_VALID, VALID) + bytes(130_000)), (EMPTY, b""),
        ("GROSS.TXT", b"a name of the old kind"), ("deleted.bin", content("deleted", 50_000)),
    ]:
        with open(f"{root}/{name}", "wb") as file:
            file.write(data)


def nested(root):
    """A folder as `Writer.fill` takes it."""
    found = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.is_dir():
            found[entry.name] = nested(entry.path)
        else:
            with open(entry.path, "rb") as file:
                data = file.read()
            found[entry.name] = (data, VALID if entry.name == HALF_VALID else len(data))
    return found


def read(disk, system, work):
    """Path -> hash of all that is on a disk, by tools of a PC; an error where its fsck finds something."""
    image = extracted(disk, work)
    if system == "exfat":
        fsck_exfat(image)
        volume = ExFat(image)
        expect(not volume.flags & 2, "the volume is marked dirty")
        return volume.hashes()
    output, code = run("fsck.fat", "-n", image)
    expect(code == 0 and "Dirty bit" not in output, output)
    copied = f"{work}/copied"
    shutil.rmtree(copied, ignore_errors=True)
    os.mkdir(copied)
    output, code = run("mcopy", "-s", "-n", "-i", image, "::*", copied)
    equal(code, 0, output)
    return tree_hashes(copied)


def expected_file(options, number):
    return f"{options.directory}/expected{number}.json"


def same(found, expected):
    found = difference(found, expected)
    expect(not found, found)


def shares(options):
    return [options.share, options.share2]


@test()
def before_the_pc_fills_its_disks(options, work):
    pc_tree(f"{work}/tree")
    for number, (system, table, kind) in enumerate(ROUNDS[options.round]):
        volume, disk = f"{work}/volume", f"{options.directory}/disk{number}.img"
        with open(volume, "wb") as file:
            file.truncate(SIZE)
        if system == "exfat":
            output, code = run("mkfs.exfat", "-L", "PC disk", volume)
            equal(code, 0, output)
            Writer(volume).fill(nested(f"{work}/tree"))
        else:
            output, code = run("mkfs.fat", "-F", "32", "-s", "1", "-n", "PC DISK", "-h", "2048" if table else "0", volume)
            equal(code, 0, output)
            output, code = run("mcopy", "-s", "-i", volume, *(f"{work}/tree/{name}" for name in sorted(os.listdir(f"{work}/tree"))), "::")
            equal(code, 0, output)
        make_disk(disk, table, kind, volume)
        os.remove(volume)
        # The tests' own reader and the PC's own checker agree with what was put there.
        same(read(disk, system, work), tree_hashes(f"{work}/tree"))


@test()
def during_clients_read_what_the_pc_wrote(options, work):
    pc_tree(f"{work}/tree")
    expected = tree_hashes(f"{work}/tree")
    for number, share in enumerate(shares(options)):
        os.mkdir(f"{work}/{number}")
        succeed(options, f"lcd {work}/{number}; recurse; prompt; mget *", share=share)
        same(tree_hashes(f"{work}/{number}"), expected)


@test()
def during_clients_change_it(options, work):
    for number, share in enumerate(shares(options)):
        root = f"{work}/{number}"
        pc_tree(root)
        make_tree(f"{root}/from a client", 60, 7, seed=4 + number)
        plain(root)
        succeed(options, f"lcd {root}; recurse; prompt; mput *client", share=share)
        # A third of the PC's folders goes, with what is in them.
        gone = sorted(os.listdir(f"{root}/from the PC"))[::3]
        expect(len(gone) >= 2, "the PC's tree is too small")
        for name in gone:
            succeed(options, f'deltree "from the PC\\{name}"', share=share)
            shutil.rmtree(f"{root}/from the PC/{name}")
        succeed(options, 'del deleted.bin; rename GROSS.TXT "from a client\\Größer als 8+3.text"', share=share)
        os.remove(f"{root}/deleted.bin")
        os.rename(f"{root}/GROSS.TXT", f"{root}/from a client/Größer als 8+3.text")
        with Client(options, share=share) as client:
            for name, at, data in [
                (PIECES, 100_000, content("new pieces", 150_000)), (PIECES, 400_000, b"behind the end"),
                (HALF_VALID, 150_000, content("in the middle of what is not valid", 9_000)), (EMPTY, 0, b"not empty any more"),
            ]:
                file = client.open(name, CreateDisposition.FILE_OPEN)
                for start in range(0, len(data), 50_000):
                    file.write(data[start:start + 50_000], at + start)
                file.close()
                with open(f"{root}/{name}", "r+b") as copy:
                    copy.seek(at)
                    copy.write(data)
            file = client.open("shorter", CreateDisposition.FILE_CREATE)
            file.write(content("shorter", 60_000), 0)
            information = FileEndOfFileInformation()
            information["end_of_file"] = 33_333
            client.set(file, information)
            file.close()
            with open(f"{root}/shorter", "wb") as copy:
                copy.write(content("shorter", 60_000)[:33_333])
        with open(expected_file(options, number), "w", encoding="utf-8") as file:
            json.dump(tree_hashes(root), file)


@test()
def during_clients_read_it_again(options, work):
    for number, share in enumerate(shares(options)):
        os.mkdir(f"{work}/{number}")
        succeed(options, f"lcd {work}/{number}; recurse; prompt; mget *", share=share, port=options.port2)
        with open(expected_file(options, number), encoding="utf-8") as file:
            same(tree_hashes(f"{work}/{number}"), json.load(file))


@test()
def after_the_pc_finds_what_clients_left(options, work):
    for number, (system, table, _) in enumerate(ROUNDS[options.round]):
        disk = f"{options.directory}/disk{number}.img"
        with open(expected_file(options, number), encoding="utf-8") as file:
            expected = json.load(file)
        try:
            same(read(disk, system, work), expected)
        except AssertionError as error:
            raise AssertionError(f"{system} in {table or 'no table'}: {error}") from error
        os.remove(expected_file(options, number))


if __name__ == "__main__":
    main()
