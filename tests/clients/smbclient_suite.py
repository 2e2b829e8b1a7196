"""Samba's smbclient: dialects, protection, trees, errors."""

import os
import re
import time

from samba import smbclient, succeed
from tap import equal, expect, main, test
from tree import difference, file_hash, make_file, make_tree, tree_hashes


def refused(status, output, good):
    """The run failed with this status."""
    expect(status in output, f"{status} expected: {output.strip()[-300:]}")
    expect(not good or "tree connect" not in output, "smbclient says that all is well")


def round_trip(options, work, *more, port=None, size=300_000):
    """Puts a file, gets it back, removes it, compares."""
    make_file(f"{work}/up", size, 7)
    name = f"round-trip-{os.path.basename(work)}"
    commands = f"put {work}/up {name}; get {name} {work}/down; del {name}"
    succeed(options, commands, *more, port=port)
    equal(file_hash(f"{work}/down"), file_hash(f"{work}/up"), "hash")


def dialect(name, version):
    @test()
    def check(options, work):
        round_trip(options, work, "-m", name, f"--option=client min protocol={name}")

    check.__name__ = f"smbclient_dialect_{version}"


dialect("SMB2_10", "2_1")
dialect("SMB3_00", "3_0")
dialect("SMB3_02", "3_0_2")
dialect("SMB3_11", "3_1_1")


def signing(algorithm):
    @test()
    def check(options, work):
        round_trip(options, work, "--client-protection=sign", f"--option=client smb3 signing algorithms={algorithm}")

    check.__name__ = f"smbclient_signed_with_{algorithm.replace('-', '_').lower()}"


signing("HMAC-SHA256")
signing("AES-128-CMAC")
signing("AES-128-GMAC")


@test()
def smbclient_second_port(options, work):
    round_trip(options, work, port=options.port2 or options.port)


@test()
def smbclient_second_share(options, _work):
    output = succeed(options, "mkdir second; rmdir second; ls", share=options.share2)
    expect("blocks available" in output, output)


@test()
def smbclient_empty_and_odd_sizes(options, work):
    for size in [0, 1, 511, 512, 65_535, 65_536, 65_537, 1_048_577]:
        round_trip(options, work, size=size)


@test()
def smbclient_names_and_folders(options, work):
    make_file(f"{work}/f", 1000, 1)
    output = succeed(options, f'''mkdir ops; cd ops; put {work}/f "Größe 日本.txt"; rename "Größe 日本.txt" "B😀.txt";
        mkdir sub; rename "B😀.txt" "sub\\C.txt"; ls sub\\*; get sub\\C.txt {work}/g; del sub\\C.txt; rmdir sub; cd ..; rmdir ops'''
        .replace("\n", " "))
    expect("C.txt" in output and "1000" in output, output)
    equal(file_hash(f"{work}/g"), file_hash(f"{work}/f"), "hash")


@test()
def smbclient_attributes_and_times(options, work):
    make_file(f"{work}/f", 10, 1)
    output = succeed(options, f"put {work}/f attributes; setmode attributes +rh; allinfo attributes; setmode attributes -rh; "
                              "utimes attributes -1 -1 2001:02:03-04:05:06 -1; allinfo attributes; del attributes")
    first, second = output.split("altname")[1:3] if output.count("altname") >= 2 else (output, output)
    expect(re.search(r"attributes: A?HR|attributes: .*RH|attributes: RHA?", first), output)
    expect("2001" in second, output)


@test()
def smbclient_wrong_password(options, _work):
    refused("NT_STATUS_LOGON_FAILURE", *smbclient(options, "ls", password="not it"))
    time.sleep(0.1)
    succeed(options, "ls")


@test()
def smbclient_unknown_user(options, _work):
    refused("NT_STATUS_LOGON_FAILURE", *smbclient(options, "ls", user="nobody-here"))


@test()
def smbclient_unknown_share(options, _work):
    refused("NT_STATUS_BAD_NETWORK_NAME", *smbclient(options, "ls", share="no-such-share"))


@test()
def smbclient_errors(options, work):
    make_file(f"{work}/f", 10, 1)
    for commands, status in [
        ("get missing /dev/null", "NT_STATUS_OBJECT_NAME_NOT_FOUND"),
        ("get missing\\missing /dev/null", "NT_STATUS_OBJECT_PATH_NOT_FOUND"),
        ("rmdir missing", "NT_STATUS_OBJECT_NAME_NOT_FOUND"),
        (f"mkdir full; put {work}/f full\\f; rmdir full", "NT_STATUS_DIRECTORY_NOT_EMPTY"),
        ("mkdir full", "NT_STATUS_OBJECT_NAME_COLLISION"),
        ("cd full\\f", "NT_STATUS_NOT_A_DIRECTORY"),
    ]:
        output, _ = smbclient(options, commands)
        expect(status in output, f"{commands}: {status} expected: {output.strip()[-300:]}")
    succeed(options, "del full\\f; rmdir full")


@test(limit=900)
def smbclient_tree(options, work):
    make_tree(f"{work}/up", options.files, options.folders)
    os.mkdir(f"{work}/down")
    succeed(options, f"mkdir tree; cd tree; lcd {work}/up; recurse; prompt; mput *", limit=800)
    succeed(options, f"cd tree; lcd {work}/down; recurse; prompt; mget *", limit=800)
    found = difference(tree_hashes(f"{work}/down"), tree_hashes(f"{work}/up"))
    expect(not found, found)
    output, _ = smbclient(options, "deltree tree", limit=800)
    output, _ = smbclient(options, "ls tree", limit=60)
    expect("NT_STATUS_NO_SUCH_FILE" in output or "NT_STATUS_OBJECT_NAME_NOT_FOUND" in output, f"the tree is still there: {output}")


@test(limit=900)
def smbclient_large_file(options, work):
    make_file(f"{work}/up", options.size << 20, 3)
    succeed(options, f"put {work}/up large; get large {work}/down; del large", limit=800)
    equal(file_hash(f"{work}/down"), file_hash(f"{work}/up"), "hash")


if __name__ == "__main__":
    main()
