"""Foreign tools look at the disks after the power is off: fsck, mtools, and a small reader of exFAT of the tests' own."""

import os
import re

from disks_suite import FILES, FOLDERS, SEED
from exfat import ExFat
from images import extracted, fsck_exfat, run
from tap import equal, expect, main, test
from tree import difference, make_tree, tree_hashes


def kept(work):
    make_tree(f"{work}/kept", FILES, FOLDERS, SEED)
    return {f"kept/{path}": value for path, value in tree_hashes(f"{work}/kept").items()} | {"kept": None}


@test(limit=300)
def exfat_disk_passes_fsck(options, work):
    image = extracted(f"{options.directory}/{options.image}", work)
    output = fsck_exfat(image)
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
