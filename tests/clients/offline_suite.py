"""Foreign tools look at the disks after the power is off: fsck, mtools, and a small reader of exFAT written here."""

import hashlib
import os
import re
import struct
import subprocess

from disks_suite import FILES, FOLDERS, SEED
from tap import equal, expect, main, test
from tree import difference, make_tree, tree_hashes

def run(*words):
    """Output and exit code of a program."""
    environment = dict(os.environ, LC_ALL="C.UTF-8", PATH=os.environ["PATH"] + ":/usr/sbin:/sbin", MTOOLS_SKIP_CHECK="1")
    result = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=240, env=environment, check=False)
    return result.stdout.decode("utf-8", "replace"), result.returncode


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


def extracted(disk, work):
    """The partition in a file of its own."""
    start, length = partition(disk)
    expect(start + length <= os.path.getsize(disk), "the partition reaches beyond the disk")
    target = f"{work}/partition.img"
    output, code = run("dd", f"if={disk}", f"of={target}", "bs=1M", f"skip={start}", f"count={length}",
                       "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none")
    equal(code, 0, output)
    os.truncate(target, length)
    return target


class ExFat:
    """Reads an exFAT volume by the specification; knows only what is needed to walk it."""

    def __init__(self, path):
        self.file = open(path, "rb")  # pylint: disable=consider-using-with
        boot = self.file.read(512)
        expect(boot[3:11] == b"EXFAT   ", "no exFAT boot sector")
        self.fat_at, _, self.heap_at, self.clusters, self.root = struct.unpack_from("<IIIII", boot, 80)
        self.flags = struct.unpack_from("<H", boot, 106)[0]
        self.sector, self.cluster = 1 << boot[108], 1 << boot[108] + boot[109]

    def chain(self, first, length, contiguous):
        """The bytes of a cluster chain; `length` None follows the chain to its end."""
        data, cluster = bytearray(), first
        while cluster and cluster < 0xFFFF_FFF7 and (length is None or len(data) < length):
            expect(2 <= cluster < self.clusters + 2, f"cluster {cluster} is outside the heap")
            self.file.seek(self.heap_at * self.sector + (cluster - 2) * self.cluster)
            data.extend(self.file.read(self.cluster))
            if contiguous:
                cluster += 1
            else:
                self.file.seek(self.fat_at * self.sector + 4 * cluster)
                cluster = struct.unpack("<I", self.file.read(4))[0]
        if length is not None:
            del data[length:]
        return bytes(data)

    def hashes(self, first=None, length=None, contiguous=False, place=""):
        """Path -> SHA-256 or None for a folder, below the folder at cluster `first`."""
        entries = self.chain(first or self.root, length, contiguous)
        found, at = {}, 0
        while at + 32 <= len(entries) and entries[at]:
            if entries[at] != 0x85:
                at += 32
                continue
            count, attributes = entries[at + 1], struct.unpack_from("<H", entries, at + 4)[0]
            stream = entries[at + 32:at + 64]
            expect(stream[0] == 0xC0, "no stream entry behind a file entry")
            valid, start, size = struct.unpack_from("<Q", stream, 8)[0], *struct.unpack_from("<IQ", stream, 20)
            units = b"".join(entries[piece + 2:piece + 32] for piece in range(at + 64, at + 32 * (count + 1), 32))
            path = place + units[:2 * stream[3]].decode("utf-16-le")
            if attributes & 0x10:
                found[path] = None
                found.update(self.hashes(start, size, bool(stream[1] & 2), path + "/"))
            else:
                data = self.chain(start, size, bool(stream[1] & 2)) if size else b""
                if valid < size:
                    data = data[:valid] + bytes(size - valid)
                found[path] = hashlib.sha256(data).hexdigest()
            at += 32 * (count + 1)
        return found


def kept(work):
    make_tree(f"{work}/kept", FILES, FOLDERS, SEED)
    return {f"kept/{path}": value for path, value in tree_hashes(f"{work}/kept").items()} | {"kept": None}


@test(limit=300)
def exfat_disk_passes_fsck(options, work):
    image = extracted(f"{options.directory}/{options.image}", work)
    output, code = run("fsck.exfat", "-n", image)
    expect(code == 0 and "clean" in output, output)
    volume = ExFat(image)
    expect(not volume.flags & 2, "the volume is marked dirty after a clean power-off")
    found = volume.hashes()
    summary = re.search(r"directories (\d+), files (\d+)", output)
    expect(summary, output)
    folders = sum(value is None for value in found.values())
    # fsck counts the root, too.
    equal((int(summary[1]) - 1, int(summary[2])), (folders, len(found) - folders), "folders and files, fsck and reader")


@test(limit=300)
def exfat_disk_has_the_tree(options, work):
    found = ExFat(extracted(f"{options.directory}/{options.image}", work)).hashes()
    difference_found = difference({path: value for path, value in found.items() if path.split("/")[0] == "kept"}, kept(work))
    expect(not difference_found, difference_found)


@test(limit=300)
def fat32_disk_passes_fsck(options, work):
    output, code = run("fsck.fat", "-n", extracted(f"{options.directory}/disk1.img", work))
    expect(code == 0, output)
    expect("Dirty bit" not in output, output)


@test(limit=300)
def fat32_disk_has_the_tree(options, work):
    image = extracted(f"{options.directory}/disk1.img", work)
    os.mkdir(f"{work}/copied")
    output, code = run("mcopy", "-s", "-n", "-i", image, "::kept", f"{work}/copied")
    equal(code, 0, output)
    found = {f"kept/{path}": value for path, value in tree_hashes(f"{work}/copied/kept").items()} | {"kept": None}
    # mtools knows the Basic Multilingual Plane only; what lies beyond it shows as underscores.
    def plain(tree):
        return {re.sub("[^\u0000-\uffff]|_+", "_", path): value for path, value in tree.items()}

    difference_found = difference(plain(found), plain(kept(work)))
    expect(not difference_found, difference_found)


if __name__ == "__main__":
    main()
