"""exFAT by its specification, for tests: walks a volume, and puts files on a new one as a PC does."""

import hashlib
import struct

from tap import expect


class ExFat:
    """Reads an exFAT volume by the specification; knows only what is needed to walk it."""

    def __init__(self, path, mode="rb"):
        self.file = open(path, mode)  # pylint: disable=consider-using-with
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

    def find(self, name):
        """The first cluster, size, valid data length of a file in the root, and whether it has no chain in the FAT."""
        entries = self.chain(self.root, None, False)
        for at in range(0, len(entries), 32):
            if entries[at] == 0x85:
                count, stream = entries[at + 1], entries[at + 32:at + 64]
                units = b"".join(entries[piece + 2:piece + 32] for piece in range(at + 64, at + 32 * (count + 1), 32))
                if units[:2 * stream[3]].decode("utf-16-le") == name:
                    valid, first, size = struct.unpack_from("<Q", stream, 8)[0], *struct.unpack_from("<IQ", stream, 20)
                    return first, size, valid, bool(stream[1] & 2)
        raise AssertionError(f"{name} is not in the root")

    def read(self, name, offset, length):
        """Bytes of a file in the root, however large it is."""
        first, size, valid, contiguous = self.find(name)
        length = max(min(length, size - offset), 0)
        cluster, data = first, bytearray()
        if not contiguous:
            self.file.seek(self.fat_at * self.sector)
            fat = struct.unpack(f"<{self.clusters + 2}I", self.file.read(4 * (self.clusters + 2)))
        for number in range(-(-(offset + length) // self.cluster)):
            if number and contiguous:
                cluster += 1
            elif number:
                cluster = fat[cluster]
            expect(2 <= cluster < self.clusters + 2, f"cluster {number} of {name} is {cluster}")
            if number >= offset // self.cluster:
                self.file.seek(self.heap_at * self.sector + (cluster - 2) * self.cluster)
                data += self.file.read(self.cluster)
        start = offset % self.cluster
        data = data[start:start + length]
        good = max(min(valid - offset, length), 0)
        return bytes(data[:good]) + bytes(length - good)

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


class Writer(ExFat):
    """Fills a new volume, once."""

    def __init__(self, path):
        super().__init__(path, "r+b")
        root = self.chain(self.root, None, False)
        self.used = next(at for at in range(0, len(root), 32) if root[at] == 0)
        entries = [root[at:at + 32] for at in range(0, self.used, 32)]
        bitmap = next(entry for entry in entries if entry[0] == 0x81)
        self.bitmap_at, length = struct.unpack_from("<IQ", bitmap, 20)
        self.bitmap = bytearray(self.chain(self.bitmap_at, length, True))
        upcase = next(entry for entry in entries if entry[0] == 0x82)
        self.upcase = self._upcase(self.chain(*struct.unpack_from("<IQ", upcase, 20), True))

    @staticmethod
    def _upcase(data):
        """The table, unpacked: 0xFFFF stands before a number of characters that are their own."""
        units = iter(struct.unpack(f"<{len(data) // 2}H", data))
        table = []
        for unit in units:
            if unit == 0xFFFF and len(table) < 0xFFFF:
                table.extend(range(len(table), len(table) + next(units)))
            else:
                table.append(unit)
        return table

    def _allocate(self, count, step):
        """Free clusters, every `step`th, noted in the bitmap."""
        found, cluster = [], 2
        while len(found) < count:
            expect(cluster < self.clusters + 2, "the volume is too small for what is to be put there")
            byte, bit = divmod(cluster - 2, 8)
            if self.bitmap[byte] >> bit & 1:
                cluster += 1
                continue
            self.bitmap[byte] |= 1 << bit
            found.append(cluster)
            cluster += step
        return found

    def _store(self, data, step):
        """Puts data into clusters; the first of them, and whether they are without a chain in the FAT."""
        clusters = self._allocate(-(-len(data) // self.cluster), step)
        for number, cluster in enumerate(clusters):
            self.file.seek(self.heap_at * self.sector + (cluster - 2) * self.cluster)
            self.file.write(data[number * self.cluster:(number + 1) * self.cluster])
        return self._chained(clusters)

    def _store_sparse(self, size, pieces):
        """As `_store`, for `size` bytes of which only the `pieces` (offset, bytes) are no zeros; in two parts."""
        count = -(-size // self.cluster)
        clusters = self._allocate(count // 3, 1)
        between = self._allocate(1, 1)[0] - 2
        clusters += self._allocate(count - len(clusters), 1)
        self.bitmap[between // 8] &= ~(1 << between % 8)
        for offset, data in pieces:
            while data:
                number, start = divmod(offset, self.cluster)
                part = data[:self.cluster - start]
                self.file.seek(self.heap_at * self.sector + (clusters[number] - 2) * self.cluster + start)
                self.file.write(part)
                offset, data = offset + len(part), data[len(part):]
        return self._chained(clusters)

    def _chained(self, clusters):
        """Writes the chain of clusters into the FAT, if they need one."""
        if all(cluster == clusters[0] + number for number, cluster in enumerate(clusters)):
            return (clusters or [0])[0], True
        for cluster, following in zip(clusters, clusters[1:] + [0xFFFF_FFFF]):
            self.file.seek(self.fat_at * self.sector + 4 * cluster)
            self.file.write(struct.pack("<I", following))
        return clusters[0], False

    def _entries(self, name, attributes, first, size, valid, contiguous):
        """The entries of a file or folder, checksum and all."""
        units = name.encode("utf-16-le")
        name_hash = 0
        for unit in struct.unpack(f"<{len(units) // 2}H", units):
            upper = self.upcase[unit] if unit < len(self.upcase) else unit
            for byte in struct.pack("<H", upper):
                name_hash = ((name_hash << 15 | name_hash >> 1) + byte) & 0xFFFF
        pieces = [units[at:at + 30] for at in range(0, len(units), 30)]
        # 2024-05-06 07:08:10, UTC.
        stamp = 44 << 25 | 5 << 21 | 6 << 16 | 7 << 11 | 8 << 5 | 5
        entries = bytearray(struct.pack("<BBHHHIIIBBBBB7x", 0x85, 1 + len(pieces), 0, attributes, 0, stamp, stamp, stamp, 0, 0, 0x80, 0x80, 0x80))
        flags = 1 | (2 if contiguous and first else 0)
        entries += struct.pack("<BBBBHHQIIQ", 0xC0, flags, 0, len(units) // 2, name_hash, 0, valid, 0, first, size)
        for piece in pieces:
            entries += b"\xc1\0" + piece.ljust(30, b"\0")
        checksum = 0
        for number, byte in enumerate(entries):
            if number not in (2, 3):
                checksum = ((checksum << 15 | checksum >> 1) + byte) & 0xFFFF
        struct.pack_into("<H", entries, 2, checksum)
        return bytes(entries)

    def _folder(self, tree):
        """The entries of what is in a folder, whose content is stored before."""
        entries = bytearray()
        for number, (name, what) in enumerate(tree.items()):
            if isinstance(what, dict):
                content = self._folder(what)
                content = content.ljust(max(-(-len(content) // self.cluster), 1) * self.cluster, b"\0")
                first, contiguous = self._store(content, 1 + number % 2)
                entries += self._entries(name, 0x10, first, len(content), len(content), contiguous)
                continue
            data, valid = what
            # What is behind the valid data is old and nobody's.
            stored = data[:valid] + b"\xa5" * (len(data) - valid)
            first, contiguous = self._store(stored, 1 + number % 3)
            entries += self._entries(name, 0x20, first, len(data), valid, contiguous)
        return bytes(entries)

    def fill(self, tree, sparse=None):
        """Puts `tree` into the root: name -> (bytes, how many of them are valid data) or, for a folder, the same again. Then
        `sparse`: name -> (size, pieces), see `_store_sparse`."""
        entries = self._folder(tree)
        for name, (size, pieces) in (sparse or {}).items():
            first, contiguous = self._store_sparse(size, pieces)
            entries += self._entries(name, 0x20, first, size, size, contiguous)
        clusters = [self.root]
        more = -(-(self.used + len(entries)) // self.cluster) - 1
        clusters += self._allocate(more, 1)
        for cluster, following in zip(clusters, clusters[1:] + [0xFFFF_FFFF]):
            self.file.seek(self.fat_at * self.sector + 4 * cluster)
            self.file.write(struct.pack("<I", following))
        root = self.chain(self.root, None, False)
        content = (root[:self.used] + entries).ljust(len(root), b"\0")
        for number, cluster in enumerate(clusters):
            self.file.seek(self.heap_at * self.sector + (cluster - 2) * self.cluster)
            self.file.write(content[number * self.cluster:(number + 1) * self.cluster])
        self.file.seek(self.heap_at * self.sector + (self.bitmap_at - 2) * self.cluster)
        self.file.write(self.bitmap)
        # Percent in use: not known.
        self.file.seek(112)
        self.file.write(b"\xff")
        self.file.close()
