"""Runs a client library's own tests against a server. One line for each: how it ended, its name, its complaint.

suites.py PACKAGE --port N --netbios-port N --password P --sources D; PACKAGE is smbprotocol, impacket or pike; D holds the
unpacked sources of the first two, whose tests are not in what pip installs. More arguments are pytest's.
"""

import argparse
import os
import signal
import sys
import uuid

import pytest

LIMIT = 60
"""Seconds that a test may take."""

OPTIONS = None


class Plugin:
    """Bounds every test and says how it ended."""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        def late(*_):
            raise TimeoutError(f"not done after {LIMIT} s")

        signal.signal(signal.SIGALRM, late)
        signal.alarm(LIMIT)
        yield
        signal.alarm(0)

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and not (report.failed or report.skipped):
            return
        path, _, name = report.nodeid.partition("::")
        module = os.path.basename(path).removesuffix(".py").removeprefix("test_")
        name = name.replace("::", ".").replace(" ", "_")
        complaint = ""
        if report.skipped:
            complaint = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            complaint = crash.message if crash else str(report.longrepr)
        complaint = " ".join(complaint[:2000].split())
        print(f"\n@{report.outcome} {OPTIONS.package}.{module}.{name} {complaint}", flush=True)

    def pytest_collection_modifyitems(self, items):
        if OPTIONS.package == "smbprotocol":
            # The others need no server.
            items[:] = [item for item in items if {"smb_real", "smb_share"} & set(item.fixturenames)]
        # In its course the server ends a connection (it charges more credits than it has), and pike goes on asking: last.
        items.sort(key=lambda item: item.name == "test_async_lock")

    # What smbprotocol's tests ask for; its source package leaves their definitions out.

    @pytest.fixture(scope="module")
    def smb_real(self):
        port = int(OPTIONS.port)
        share = r"\\127.0.0.1\data"
        return ["nas", OPTIONS.password, "127.0.0.1", port, share, r"\\127.0.0.1\encrypted"]

    @pytest.fixture()
    def smb_share(self, smb_real):
        import smbclient
        import smbclient.shutil

        smbclient.register_session(smb_real[2], username=smb_real[0], password=smb_real[1], port=smb_real[3])
        path = f"{smb_real[4]}\\{uuid.uuid4()}-Pýtæs†"
        smbclient.mkdir(path, port=smb_real[3])
        try:
            # Its tests name no port, so the connection is to be found whatever port they mean.
            yield path
        finally:
            try:
                smbclient.shutil.rmtree(path)
            finally:
                smbclient.reset_connection_cache(fail_on_error=False)


def pike():
    os.environ.update(
        PIKE_SERVER="127.0.0.1",
        PIKE_PORT=OPTIONS.port,
        PIKE_SHARE="data",
        PIKE_CREDS=f"WORKGROUP\\nas%{OPTIONS.password}",
        # Some tests name a session that is none, and then cannot sign.
        PIKE_SIGN="no",
    )
    import pike.model
    import pike.test
    import pike.transport

    # It takes the end of the stream for "", which it was before Python 3, and then waits for more for ever. What a whole
    # message in its buffer leads to may read again before it is taken out: then 0 bytes are asked for, which is no end.
    receive = pike.transport.Transport.recv

    def receive_or_end(self, size):
        received = receive(self, size)
        if size and received == b"":
            raise EOFError("Remote host closed connection")
        return received

    pike.transport.Transport.recv = receive_or_end
    # Some tests name no port.
    pike.model.default_port = int(OPTIONS.port)
    connect = pike.model.Client.connect
    defaults = tuple(int(OPTIONS.port) if value == 445 else value for value in connect.__defaults__)
    connect.__defaults__ = defaults
    return ["-o", "python_files=*.py", os.path.dirname(pike.test.__file__)]


def smbprotocol():
    import smbclient._pool
    import smbprotocol.connection

    # Tests of the layer above name no port: they mean the server's.
    port = int(OPTIONS.port)
    for function in (
        smbclient._pool.register_session,
        smbclient._pool.get_smb_tree,
        smbclient._pool.delete_session,
        smbprotocol.connection.Connection.__init__,
    ):
        defaults = function.__defaults__
        function.__defaults__ = tuple(port if value == 445 else value for value in defaults)
    os.chdir(os.path.join(OPTIONS.sources, "smbprotocol"))
    # Of referrals, without a server.
    return ["tests", "--ignore=tests/test_dfs.py", "--ignore=tests/test_smbclient_pool.py"]


def impacket():
    import impacket.nmb as nmb
    from impacket.ntlm import compute_nthash

    nmb.SMB_SESSION_PORT = int(OPTIONS.port)
    nmb.NETBIOS_SESSION_PORT = int(OPTIONS.netbios_port)
    root = os.path.join(OPTIONS.sources, "impacket")
    os.chdir(root)
    sys.path.insert(0, root)
    settings = "\n".join(
        ["[TCPTransport]", "servername = NAS", "machine = 127.0.0.1", "username = nas", "domain = NAS"]
        + [f"password = {OPTIONS.password}", f"hashes = {'0' * 32}:{compute_nthash(OPTIONS.password).hex()}"]
        + [f"{name} =" for name in ("aesKey256", "aesKey128", "machineuser", "machineuserhashes")]
    )
    with open("nas.cfg", "w", encoding="utf-8") as file:
        file.write(settings)
    from tests.SMB_RPC import test_smb

    set_up = test_smb.SMB1Tests.setUp

    def on_share(self):
        set_up(self)
        self.share = "data"

    test_smb.SMB1Tests.setUp = on_share
    # The rest of its tests is for domain controllers.
    return ["--remote-config=nas.cfg", "tests/SMB_RPC/test_smb.py"]


def main():
    global OPTIONS
    parser = argparse.ArgumentParser()
    parser.add_argument("package", choices=["smbprotocol", "impacket", "pike"])
    for name in ("port", "netbios-port", "password", "sources"):
        parser.add_argument(f"--{name}", required=True)
    OPTIONS, rest = parser.parse_known_args()
    where = {"pike": pike, "smbprotocol": smbprotocol, "impacket": impacket}[OPTIONS.package]()
    arguments = ["-s", "-q", "-p", "no:cacheprovider", "--tb=no", "-o", "addopts="]
    # How the tests ended is in the lines; how pytest ended says nothing more.
    pytest.main(arguments + rest + where, plugins=[Plugin()])


if __name__ == "__main__":
    main()
