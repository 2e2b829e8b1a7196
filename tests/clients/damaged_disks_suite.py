"""Disks whose metadata is damaged at random: the appliance serves or refuses them, says so, checks and repairs them, and never stops.

`cargo xtask test` runs `before`, `during` and `after` for each round, a machine each time. The first makes the disks, the
others damage copies of them; the round is the seed.
"""

import json
import os
import random
import shutil
import struct

from smbprotocol.exceptions import SMBResponseException
from smbprotocol.file_info import FileInformationClass
from smbprotocol.open import CreateDisposition

from console import ask
from images import extracted, partition, run
from pc_disks_suite import plain
from samba import succeed
from smbprotocol_suite import READ, Client
from tap import expect, main, test
from tree import make_tree

KINDS = ["exfat", "fat32"]
FLIPS = [10, 1, 3, 100, 1000]
# What `check` may say in the end.
VERDICTS = ["Nothing is wrong.", "Nothing was changed.", "It is put right.", "Not done: "]


def pristine(options, number):
    return f"{options.directory}/pristine{number}.img"


def disk(options, number):
    return f"{options.directory}/disk{number}.img"


def sound_file(options):
    return f"{options.directory}/sound{options.round}.json"


def places(image, kind):
    """Where metadata is, as (start, length): the tables, the boot sectors, FAT, bitmap, up-case table, directories, journal."""
    start, length = partition(image)
    with open(image, "rb") as file:
        file.seek(start)
        boot = file.read(512)
        if kind == "exfat":
            fat, _, heap, clusters = struct.unpack_from("<IIII", boot, 80)
            sector, cluster = 1 << boot[108], 1 << boot[108] + boot[109]
        else:
            sector = struct.unpack_from("<H", boot, 11)[0]
            fat, cluster = struct.unpack_from("<H", boot, 14)[0], boot[13] * sector
            heap = fat + boot[16] * struct.unpack_from("<I", boot, 36)[0]
            clusters = (length // sector - heap) * sector // cluster
        found = [(start, 512)] * 2 + [(start + fat * sector, 32_768)] * 3 + [(start + heap * sector, cluster * 4)] * 3
        # The tables of the disk, the array's records, the journal.
        found += [(0, 17_408), (1 << 20, 4096), (2 << 20, 65_536)]
        for number in range(clusters):
            at = start + heap * sector + number * cluster
            file.seek(at)
            head = file.read(64)
            if kind == "exfat" and head[:1] + head[32:33] == b"\x85\xc0" or head[:11] == b".          " and head[32:43] == b"..         ":
                found.append((at, min(cluster, 2048)))
    expect(len(found) > 14, f"only {len(found)} places of metadata")
    return found


@test()
def before_the_disks_are_damaged(options, _work):
    for number, kind in enumerate(KINDS):
        if options.round == 0:
            continue
        shutil.copyfile(pristine(options, number), disk(options, number))
        where = places(disk(options, number), kind)
        dice = random.Random(f"{options.round} {kind}")
        with open(disk(options, number), "r+b") as file:
            for _ in range(FLIPS[options.round % len(FLIPS)]):
                start, length = dice.choice(where)
                at = start + dice.randrange(length)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << dice.randrange(8)]))


def attempt(call, *arguments, **named):
    """What a call returns, or None where the answer is an error: any but none, and no connection that ends."""
    try:
        return call(*arguments, **named)
    except SMBResponseException:
        return None


def walk(client, folder, depth, found):
    """Lists and reads what is there, up to a number of names."""
    handle = attempt(client.folder, folder, CreateDisposition.FILE_OPEN)
    if handle is None:
        return
    entries = []
    while (more := attempt(handle.query_directory, "*", FileInformationClass.FILE_DIRECTORY_INFORMATION)) and len(entries) < 200:
        entries += more
    attempt(handle.close)
    for entry in entries:
        name = entry["file_name"].get_value().decode("utf-16-le", "replace")
        if name in (".", "..") or "\ufffd" in name or len(found) > 400:
            continue
        path = f"{folder}\\{name}".lstrip("\\")
        found.append(path)
        if entry["file_attributes"].get_value() & 0x10:
            if depth < 8:
                walk(client, path, depth + 1, found)
        elif file := attempt(client.open, path, CreateDisposition.FILE_OPEN, access=READ):
            attempt(file.read, 0, 65_536)
            attempt(file.read, max(min(entry["end_of_file"].get_value(), 1 << 40) - 5, 0), 100)
            attempt(file.close)


def use(options, share):
    """Whether a share is served; all the usual things are tried with it."""
    with Client(options, share=share, tree=False) as client:
        try:
            client.tree.connect(require_secure_negotiate=False)
        except SMBResponseException:
            return False
        found = []
        walk(client, "", 0, found)
        for path in found[::7]:
            if file := attempt(client.open, path, CreateDisposition.FILE_OPEN):
                attempt(file.write, bytes(10_000), 5_000)
                attempt(client.rename, file, f"renamed {len(path)}")
                attempt(file.close)
        for path in found[3::7]:
            attempt(client.remove, path)
        if folder := attempt(client.folder, "made on the damaged disk"):
            attempt(folder.close)
        for number in range(20):
            if file := attempt(client.open, f"made on the damaged disk\\{number}"):
                attempt(file.write, bytes(30_000), 0)
                attempt(file.close)
        if file := attempt(client.open, "flushed"):
            attempt(file.write, b"flushed", 0)
            attempt(file.flush)
            attempt(file.close)
    return True


def verdict(options, line):
    """What the console's `check` says in the end, and all of it."""
    said = ask(options, line, "yes", limit=60)
    found = [one for one in VERDICTS if one in said]
    expect(len(found) == 1, f"`{line}` says:\n{said[-900:]}")
    return found[0], said


@test(limit=120)
def during_the_damaged_disks_are_used(options, work):
    if options.round == 0:
        said = ask(options, "format 1 fat32", "yes")
        expect("is formatted" in said, said)
        make_tree(f"{work}/tree", 150, 14, seed=5)
        plain(f"{work}/tree")
        for share in [options.share, options.share2]:
            succeed(options, f"lcd {work}; recurse; prompt; mput tree", share=share)
        return
    sound, wrong = {}, 0
    for number, share in enumerate([options.share, options.share2]):
        served = use(options, share)
        log = ask(options, "log 200")
        if not served:
            reasons = [row for row in log.splitlines() if ("WARN" in row or "ERROR" in row) and (f"channel {number}" in row or f"volume {number}" in row)]
            expect(reasons, f"{share} is not served, and the log does not say why:\n{log}")
        first, said = verdict(options, f"check {number}")
        wrong += first != "Nothing is wrong."
        second = first
        if not first.startswith("Not done"):
            second, said = verdict(options, f"check {number} repair")
            third, said = verdict(options, f"check {number}")
            expect(third == "Nothing is wrong." and "stay away" not in said, f"after a repair that said {second!r}:\n{said}")
            # Whole again, it serves again.
            with Client(options, share=share) as client:
                file = client.open("made on the repaired disk", CreateDisposition.FILE_CREATE)
                file.write(b"repaired", 0)
                file.close()
        sound[number] = not first.startswith("Not done")
        print(f"seed {options.round}, {FLIPS[options.round % len(FLIPS)]} flips, {KINDS[number]}: {'served' if served else 'refused'}; {first} {second}", flush=True)
    # Whatever the disks are, the appliance is there.
    output = succeed(options, "", "-L", options.host)
    expect("IPC$" in output, output)
    with open(sound_file(options), "w", encoding="utf-8") as file:
        json.dump(sound, file)


@test()
def after_what_was_repaired_is_sound(options, work):
    if options.round == 0:
        for number in range(len(KINDS)):
            os.replace(disk(options, number), pristine(options, number))
        return
    with open(sound_file(options), encoding="utf-8") as file:
        sound = json.load(file)
    for number, kind in enumerate(KINDS):
        if sound[str(number)]:
            output, code = run(f"fsck.{kind.removesuffix('32')}", "-n", extracted(disk(options, number), work))
            expect(code == 0 and "Dirty bit" not in output, f"{kind}: {output}")


if __name__ == "__main__":
    main()
