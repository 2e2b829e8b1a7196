"""Many clients of three kinds at once, over both Ethernet ports."""

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor

from impacket.smb3structs import SMB2_DIALECT_21
from impacket.smbconnection import SMBConnection
import smbclient as smb

from samba import succeed
from tap import expect, main, test
from tree import difference, make_file, make_tree, tree_hashes


def with_smbclient(options, port, name, up, down):
    succeed(options, f"mkdir {name}; cd {name}; lcd {up}; recurse; prompt; mput *", port=port, limit=1500)
    succeed(options, f"cd {name}; lcd {down}; recurse; prompt; mget *", port=port, limit=1500)


def with_smbprotocol(options, port, name, up, down):
    cache = {}
    account = {"username": options.user, "password": options.password, "port": port, "connection_cache": cache}
    base = rf"\\{options.host}\{options.share}\{name}"
    smb.mkdir(base, **account)
    for place, folders, files in os.walk(up):
        relative = os.path.relpath(place, up)
        remote = base if relative == "." else base + "\\" + relative.replace("/", "\\")
        for folder in folders:
            smb.mkdir(f"{remote}\\{folder}", **account)
        for file in files:
            with open(os.path.join(place, file), "rb") as source, smb.open_file(f"{remote}\\{file}", "wb", **account) as target:
                while block := source.read(1 << 20):
                    target.write(block)
    for place, folders, files in smb.walk(base, **account):
        relative = place[len(base):].lstrip("\\").replace("\\", "/")
        local = os.path.join(down, relative)
        for folder in folders:
            os.mkdir(os.path.join(local, folder))
        for file in files:
            with open(os.path.join(local, file), "wb") as target, smb.open_file(f"{place}\\{file}", "rb", **account) as source:
                while block := source.read(1 << 20):
                    target.write(block)
    smb.reset_connection_cache(connection_cache=cache)


def with_impacket(options, port, name, up, down):
    # impacket computes CMAC, which 3.x signs with, in Python: a minute for 8 MiB. 2.1 signs with HMAC-SHA256.
    connection = SMBConnection(
        options.host, options.host, sess_port=port, timeout=120, preferredDialect=SMB2_DIALECT_21)
    connection.login(options.user, options.password)
    connection.createDirectory(options.share, name)
    for place, folders, files in os.walk(up):
        relative = os.path.relpath(place, up)
        remote = name if relative == "." else name + "\\" + relative.replace("/", "\\")
        for folder in folders:
            connection.createDirectory(options.share, f"{remote}\\{folder}")
        for file in files:
            with open(os.path.join(place, file), "rb") as source:
                connection.putFile(options.share, f"{remote}\\{file}", source.read)

    def fetch(remote, local):
        for entry in connection.listPath(options.share, remote + "\\*"):
            found = entry.get_longname()
            if found in (".", ".."):
                continue
            if entry.is_directory():
                os.mkdir(os.path.join(local, found))
                fetch(f"{remote}\\{found}", os.path.join(local, found))
            else:
                data = io.BytesIO()
                connection.getFile(options.share, f"{remote}\\{found}", data.write)
                with open(os.path.join(local, found), "wb") as target:
                    target.write(data.getvalue())

    fetch(name, down)
    connection.close()


KINDS = [with_smbclient, with_smbprotocol, with_smbclient, with_impacket]


@test(limit=3400)
def parallel_clients(options, work):
    """Every client puts and gets a tree and its part of the large file, all at once."""

    def client(number):
        # A forwarded port takes one connection at a time: do not knock all at once.
        time.sleep(0.15 * number)
        kind = KINDS[number % len(KINDS)]
        up, down = f"{work}/up{number}", f"{work}/down{number}"
        os.mkdir(up)
        os.mkdir(down)
        make_tree(up, options.files // options.clients, max(1, options.folders // options.clients), seed=number)
        make_file(f"{up}/large {number}.bin", (options.size << 20) // options.clients, seed=number)
        # Half of the clients come in by each Ethernet port, each kind by both.
        port = options.port if number // len(KINDS) % 2 == number % 2 else options.port2 or options.port
        start = time.monotonic()
        try:
            kind(options, port, f"parallel {number}" if kind is not with_smbclient else f"parallel-{number}", up, down)
        except Exception as error:
            raise AssertionError(f"client {number} ({kind.__name__}, port {port}): {error}") from error
        print(f"# client {number}, {kind.__name__}, port {port}: {time.monotonic() - start:.1f} s", flush=True)
        found = difference(tree_hashes(down), tree_hashes(up))
        expect(not found, f"client {number} ({kind.__name__}): {found}")

    with ThreadPoolExecutor(options.clients) as pool:
        outcomes = [pool.submit(client, number) for number in range(options.clients)]
        errors = [str(outcome.exception()) for outcome in outcomes if outcome.exception()]
    expect(not errors, f"{len(errors)} of {options.clients} clients: {'; '.join(errors)}")


@test(limit=3400)
def what_is_there_after_the_parallel_clients(options, work):
    """Another client still finds all of it, by the other port."""
    os.mkdir(f"{work}/all")
    succeed(options, f"lcd {work}/all; recurse; prompt; mget parallel*", port=options.port2 or options.port, limit=3000)
    for number in range(options.clients):
        os.mkdir(f"{work}/up{number}")
        make_tree(f"{work}/up{number}", options.files // options.clients, max(1, options.folders // options.clients), seed=number)
        make_file(f"{work}/up{number}/large {number}.bin", (options.size << 20) // options.clients, seed=number)
        name = f"parallel {number}" if os.path.isdir(f"{work}/all/parallel {number}") else f"parallel-{number}"
        found = difference(tree_hashes(f"{work}/all/{name}"), tree_hashes(f"{work}/up{number}"))
        expect(not found, f"client {number}: {found}")


if __name__ == "__main__":
    main()
