"""Leaves trees on both shares (or the one there is), for tools that look at the disks after the power is off; finds them again."""

import os

from samba import smbclient, succeed
from tap import expect, main, test
from tree import difference, make_tree, tree_hashes

# The same on every run: `offline_suite.py` makes it again and compares.
FILES, FOLDERS, SEED = 120, 12, 42


def shares(options):
    return dict.fromkeys([options.share, options.share2])


@test(limit=200)
def leave_a_tree_on_each_disk(options, work):
    make_tree(f"{work}/kept", FILES, FOLDERS, SEED)
    for share in shares(options):
        smbclient(options, "deltree kept", share=share)
        succeed(options, f"lcd {work}; recurse; prompt; mput kept", share=share, limit=180)


@test(limit=200)
def find_the_tree_on_each_disk(options, work):
    make_tree(f"{work}/kept", FILES, FOLDERS, SEED)
    for number, share in enumerate(shares(options)):
        os.mkdir(f"{work}/{number}")
        succeed(options, f"lcd {work}/{number}; recurse; prompt; mget kept", share=share, limit=180)
        found = difference(tree_hashes(f"{work}/{number}/kept"), tree_hashes(f"{work}/kept"))
        expect(not found, f"{share}: {found}")


if __name__ == "__main__":
    main()
