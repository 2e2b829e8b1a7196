"""Two small disks that clients fill, empty and fill again, two clients at once on each.

`cargo xtask test` runs `during` with the appliance and `after` when it is switched off.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

from smbprotocol.exceptions import SMBResponseException
from smbprotocol.file_info import FileInformationClass
from smbprotocol.header import NtStatus
from smbprotocol.open import CreateDisposition

from console import ask
from pc_disks_suite import expected_file, read, same
from smbprotocol_suite import READ, Client, refuses
from tap import equal, expect, main, test

CHUNK = 1 << 18
# Chunks of a file.
LENGTH = 24
CLIENTS = 2
DISK_FULL = NtStatus.STATUS_DISK_FULL
KINDS = ["exfat", "fat32"]


def shares(options):
    return [options.share, options.share2]


def chunk(client, number, size=CHUNK):
    """What a client writes: no two sectors of all of it are the same."""
    start = hashlib.sha256(f"client {client}, chunk {number}".encode()).digest()
    return b"".join(start + sector.to_bytes(4, "big") + bytes(476) for sector in range(size // 512))


def name(client, number):
    return f"client {client}\\file {number // LENGTH}"


def free_bytes(client):
    folder = client.folder("")
    size = client.query(folder, 3, info_type=2)
    folder.close()
    units, sectors, sector = int.from_bytes(size[8:16], "little"), *(int.from_bytes(size[at:at + 4], "little") for at in (16, 20))
    return units * sectors * sector


def fill(options, share, number, limit):
    """Writes until the disk is full, or `limit` bytes; the lengths of what was acknowledged, chunk by chunk."""
    written = []
    port = options.port2 if number % 2 else options.port
    with Client(options, share=share, port=port) as client:
        client.folder(f"client {number}").close()
        file = None
        full = False
        while not full and sum(written) < limit:
            at = len(written) % LENGTH
            if at == 0:
                if file is not None:
                    file.close()
                try:
                    file = client.open(name(number, len(written)), CreateDisposition.FILE_OVERWRITE_IF)
                except SMBResponseException as error:
                    equal(hex(error.status), hex(DISK_FULL), "the status of a CREATE on a full disk")
                    file = None
                    break
            # The last bytes of the disk in small pieces.
            for size in [CHUNK, 1 << 15, 1 << 9]:
                try:
                    file.write(chunk(number, len(written), size), at * CHUNK)
                except SMBResponseException as error:
                    equal(hex(error.status), hex(DISK_FULL), "the status of a WRITE on a full disk")
                    full = True
                    continue
                written.append(size)
                break
            full |= bool(written) and written[-1] < CHUNK
        if file is not None:
            file.flush()
            file.close()
    return written


def fill_all(options, limits=None):
    """All the clients at once; share -> what each of its clients wrote."""
    with ThreadPoolExecutor(CLIENTS * 2) as pool:
        running = {
            share: [pool.submit(fill, options, share, number, (limits or {}).get(share, [1 << 40] * CLIENTS)[number])
                    for number in range(CLIENTS)]
            for share in shares(options)}
        return {share: [one.result() for one in each] for share, each in running.items()}


def verify(options, share, number, written):
    """Everything that was acknowledged is there, as another connection sees it."""
    port = options.port if number % 2 else options.port2
    with Client(options, share=share, port=port) as client:
        file = None
        for index, size in enumerate(written):
            if index % LENGTH == 0:
                if file is not None:
                    file.close()
                file = client.open(name(number, index), CreateDisposition.FILE_OPEN, access=READ)
            found = file.read(index % LENGTH * CHUNK, size)
            expect(found == chunk(number, index, size), f"{share}: chunk {index} of client {number} is not what was acknowledged")
        file.close()


def verify_all(options, written):
    with ThreadPoolExecutor(CLIENTS * 2) as pool:
        running = [pool.submit(verify, options, share, number, each[number]) for share, each in written.items() for number in range(CLIENTS)]
        for one in running:
            one.result()


def empty(client, number):
    """Removes what a client left."""
    folder = client.folder(f"client {number}")
    names = []
    try:
        while True:
            found = folder.query_directory("*", FileInformationClass.FILE_NAMES_INFORMATION)
            names += [entry["file_name"].get_value().decode("utf-16-le") for entry in found]
    except SMBResponseException as error:
        equal(hex(error.status), hex(NtStatus.STATUS_NO_MORE_FILES), "status")
    folder.close()
    for one in set(names) - {".", ".."}:
        client.remove(f"client {number}\\{one}")
    client.remove(f"client {number}")


@test(limit=200)
def during_two_clients_fill_each_disk(options, _work):
    said = ask(options, "format 1 fat32", "yes")
    expect("is formatted" in said, said)
    before = {}
    for share in shares(options):
        with Client(options, share=share) as client:
            before[share] = free_bytes(client)
            expect(20 << 20 < before[share] < 400 << 20, f"{share}: {before[share]} bytes free on the new disk")
    written = fill_all(options)
    for share, each in written.items():
        total = sum(sum(one) for one in each)
        print(f"{share}: {total} of {before[share]} bytes, {[len(one) for one in each]} chunks", flush=True)
        expect(all(len(one) > 20 for one in each), "a client has hardly written")
        # What is not there went to folders and to the ends of files, and stays less than a chunk for each client.
        expect(before[share] - 4 * CHUNK <= total <= before[share], f"{share}: {total} of {before[share]} bytes")
    verify_all(options, written)

    for share, each in written.items():
        with Client(options, share=share) as client:
            # What is there can still be changed, renamed, removed; nothing can be added.
            file = client.open(name(0, 0), CreateDisposition.FILE_OPEN)
            file.write(b"changed on the full disk", 0)
            file.write(chunk(0, 0), 0)
            file.flush()
            client.rename(file, r"client 0\renamed on the full disk")
            client.rename(file, name(0, 0))
            file.close()
            last = client.open(name(0, len(each[0]) - 1), CreateDisposition.FILE_OPEN)
            refuses(DISK_FULL, last.write, bytes(CHUNK * 4), LENGTH * CHUNK)
            last.close()
            expect(free_bytes(client) < CHUNK, f"{share}: {free_bytes(client)} bytes free on the full disk")
            for number in range(CLIENTS):
                empty(client, number)
            after = free_bytes(client)
            # The root may have grown.
            expect(before[share] - CHUNK <= after <= before[share], f"{share}: {after} of {before[share]} bytes free after everything is gone")

    # The same once more: as much fits again.
    again = fill_all(options, {share: [sum(one) for one in each] for share, each in written.items()})
    for share, each in again.items():
        first, second = (sum(sum(one) for one in what[share]) for what in (written, again))
        expect(second >= first - 2 * CHUNK, f"{share}: {second} bytes the second time, {first} the first")
    verify_all(options, again)
    for number, (share, each) in enumerate(again.items()):
        with Client(options, share=share) as client:
            empty(client, 0)
        expected = {"client 1": None}
        for start in range(0, len(each[1]), LENGTH):
            content = b"".join(chunk(1, index, each[1][index]) for index in range(start, min(start + LENGTH, len(each[1]))))
            expected[name(1, start).replace("\\", "/")] = hashlib.sha256(content).hexdigest()
        with open(expected_file(options, number), "w", encoding="utf-8") as file:
            json.dump(expected, file)


@test()
def after_the_disks_are_sound(options, work):
    for number, kind in enumerate(KINDS):
        with open(expected_file(options, number), encoding="utf-8") as file:
            expected = json.load(file)
        expect(len(expected) > 3, f"{kind}: hardly anything was to be kept")
        found = read(f"{options.directory}/disk{number}.img", kind, work)
        # A file that was made when there was no room for a byte of it.
        nothing = hashlib.sha256(b"").hexdigest()
        same({path: value for path, value in found.items() if value != nothing}, expected)


if __name__ == "__main__":
    main()
