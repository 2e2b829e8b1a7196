"""What no client sends: garbage, half requests, floods. Afterwards a log-on still succeeds within five seconds."""

import random
import socket
import struct
import time

from samba import succeed
from tap import expect, main, test


def negotiate(dialects=(0x0210, 0x0300), count=None, contexts=b"", context_offset=0, context_count=0, size=36):
    """A NEGOTIATE request in its frame; `count` may lie about the dialects."""
    header = b"\xfeSMB" + struct.pack("<HHIHHIIQIIQ16s", 64, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, b"")
    body = struct.pack("<HHHHI16s", size, len(dialects) if count is None else count, 1, 0, 0, b"hostile client!!")
    body += struct.pack("<IHH", context_offset, context_count, 0)
    body += b"".join(struct.pack("<H", dialect) for dialect in dialects)
    return framed(header + body + contexts)


def framed(message):
    return struct.pack(">I", len(message)) + message


def session_request():
    """NetBIOS session request (RFC 1002 4.3.2) from CLIENT to *SMBSERVER."""

    def name(text):
        padded = text.ljust(16).encode()
        return b"\x20" + bytes(0x41 + nibble for byte in padded for nibble in (byte >> 4, byte & 15)) + b"\0"

    names = name("*SMBSERVER") + name("CLIENT")
    return struct.pack(">BBH", 0x81, 0, len(names)) + names


def talk(port, data, host="127.0.0.1", limit=3.0):
    """Sends `data` and returns what comes back until the server closes or `limit` seconds are over."""
    answer = b""
    try:
        with socket.create_connection((host, port), timeout=limit) as stream:
            stream.sendall(data)
            stream.settimeout(limit)
            while piece := stream.recv(65536):
                answer += piece
                if len(answer) >= 4 and len(answer) >= 4 + int.from_bytes(answer[1:4], "big"):
                    break
    except OSError:
        pass
    return answer


def ports(options):
    return [port for port in (options.port, options.port2, options.netbios_port) if port]


def still_serves(options, limit=5.0):
    """A log-on and a listing, in at most `limit` seconds."""
    for port in [options.port] + ([options.port2] if options.port2 else []):
        start = time.monotonic()
        succeed(options, "ls", port=port, limit=60)
        taken = time.monotonic() - start
        expect(taken < limit, f"a log-on on port {port} took {taken:.1f} s")


@test()
def a_plain_negotiate_is_answered(options, _work):
    """The base that the bent ones are bent from."""
    answer = talk(options.port, negotiate())
    expect(answer[4:8] == b"\xfeSMB" and answer[12:16] == b"\0\0\0\0", f"{answer[:32].hex()}")


@test()
def netbios_session_service(options, _work):
    if not options.netbios_port:
        return
    answer = talk(options.netbios_port, session_request())
    expect(answer[:1] == b"\x82", f"a session request got {answer[:8].hex()}")
    with socket.create_connection((options.host, options.netbios_port), timeout=5) as stream:
        stream.sendall(session_request())
        expect(stream.recv(4)[:1] == b"\x82", "no positive session response")
        stream.sendall(negotiate())
        answer = stream.recv(65536)
        expect(answer[4:8] == b"\xfeSMB", "no answer to NEGOTIATE in a NetBIOS session")
        # Keep-alives are allowed anywhere and not answered (RFC 1002 4.3.7): the connection stays.
        stream.sendall(b"\x85\0\0\0")
        stream.settimeout(0.5)
        try:
            expect(False, f"a keep-alive got {stream.recv(100)!r}")
        except TimeoutError:
            pass


@test(limit=120)
def garbage(options, _work):
    generator = random.Random(1)
    for port in ports(options):
        for size in [1, 3, 4, 5, 36, 100, 1000, 5000]:
            talk(port, generator.randbytes(size), limit=0.3)
        for kind in [b"GET / HTTP/1.1\r\nHost: nas\r\n\r\n", b"\0" * 64, b"\xff" * 512, b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\0\x01"]:
            talk(port, kind, limit=0.3)
    still_serves(options)


@test(limit=120)
def frames_that_lie_about_their_length(options, _work):
    for port in ports(options):
        talk(port, b"\0\xff\xff\xff" + b"\xfeSMB" + b"\0" * 100, limit=0.5)
        talk(port, b"\0\0\0\0" * 50, limit=0.5)
        talk(port, b"\0\0\0\x04\xfeSMB", limit=0.5)
        talk(port, negotiate()[:50], limit=0.5)
        talk(port, b"\0\0\0\x20\xffSMBr" + b"\0" * 27, limit=0.5)
    still_serves(options)


@test(limit=120)
def bent_negotiates(options, _work):
    """Counts, offsets and sizes that point out of the message; none is accepted, none is fatal."""
    context = struct.pack("<HHI", 1, 38, 0) + b"\0" * 38
    bent = [
        negotiate(count=65_535),
        negotiate(count=0, dialects=()),
        negotiate(dialects=(0x9999,)),
        negotiate(size=35),
        negotiate(dialects=(0x0311,), context_offset=0xFFFF_FFFF, context_count=1),
        negotiate(dialects=(0x0311,), context_offset=112, context_count=0xFFFF, contexts=b"\0\0" + context),
        negotiate(dialects=(0x0311,), context_offset=4, context_count=1, contexts=context),
        negotiate(dialects=(0x0311,), context_offset=104, context_count=1, contexts=b"\0\0" + struct.pack("<HHI", 1, 0xFFFF, 0)),
        negotiate(dialects=(0x0311,), context_offset=0, context_count=0),
    ]
    for port in (port for port in ports(options) if port != options.netbios_port):
        for number, message in enumerate(bent):
            answer = talk(port, message, limit=1.0)
            accepted = answer[4:8] == b"\xfeSMB" and answer[12:16] == b"\0\0\0\0"
            expect(not accepted, f"bent negotiate {number} was accepted")
    still_serves(options)


@test(limit=120)
def requests_before_their_time(options, _work):
    """Every command without a session gets an error or the end of the connection, no more."""
    for command in range(0, 19):
        if command in (0, 1):
            continue
        header = b"\xfeSMB" + struct.pack("<HHIHHIIQIIQ16s", 64, 1, 0, command, 1, 0, 0, 1, 0, 1, 1, b"")
        with socket.create_connection((options.host, options.port), timeout=5) as stream:
            stream.settimeout(2)
            stream.sendall(negotiate())
            first = stream.recv(65536)
            expect(first[4:8] == b"\xfeSMB", "no answer to NEGOTIATE")
            stream.sendall(framed(header + struct.pack("<H", 24) + b"\0" * 100))
            try:
                answer = stream.recv(65536)
            except OSError:
                answer = b""
            succeeded = len(answer) >= 16 and answer[12:16] == b"\0\0\0\0" and command != 13
            expect(not succeeded, f"command {command} succeeded without a session")
    still_serves(options)


@test(limit=300)
def random_messages(options, _work):
    """Headers that are right and bodies that are not, a few thousand of them on many connections."""
    generator = random.Random(2)
    end = time.monotonic() + (60 if options.full else 8)
    while time.monotonic() < end:
        try:
            with socket.create_connection((options.host, options.port), timeout=2) as stream:
                stream.settimeout(0.2)
                stream.sendall(negotiate((0x0210, 0x0300, 0x0302)))
                stream.recv(65536)
                for number in range(1, 20):
                    command = generator.choice([1, 1, 1, 2, 3, 5, 8, 14, generator.randrange(32)])
                    header = b"\xfeSMB" + struct.pack(
                        "<HHIHHIIQIIQ16s", 64, 1, 0, command, 1, generator.choice([0, 1, 4, 8]),
                        generator.choice([0, 0, 8, 64, 0xFFFF_FFF8]), number, 0, 0, 0, b"")
                    body = struct.pack("<H", generator.choice([25, 24, 9, 57, 49, 33])) + generator.randbytes(generator.randrange(200))
                    stream.sendall(framed(header + body))
        except OSError:
            pass
    still_serves(options)


@test(limit=400)
def half_open_flood(options, _work):
    """500 connections that say nothing; a log-on succeeds within five seconds while they are there, and after."""
    streams = []
    try:
        targets = [options.port] + ([options.port2] if options.port2 else [])
        for number in range(500):
            try:
                streams.append(socket.create_connection((options.host, targets[number % len(targets)]), timeout=0.5))
            except OSError:
                # Refused is an answer too.
                pass
        print(f"# {len(streams)} of 500 connections are open", flush=True)
        expect(len(streams) >= 100, f"only {len(streams)} connections came about")
        still_serves(options)
    finally:
        for stream in streams:
            stream.close()
    time.sleep(1)
    still_serves(options)


@test(limit=120)
def slow_senders(options, _work):
    """Connections that send a request byte by byte do not hold up others."""
    streams = [socket.create_connection((options.host, options.port), timeout=5) for _ in range(20)]
    try:
        for byte in negotiate()[:60]:
            for stream in streams:
                try:
                    stream.sendall(bytes([byte]))
                except OSError:
                    pass
        still_serves(options)
    finally:
        for stream in streams:
            stream.close()


@test(limit=120)
def wrong_passwords_in_a_row(options, _work):
    """Failures back off, but do not lock out the one who knows the password for long."""
    from impacket.smbconnection import SMBConnection, SessionError  # pylint: disable=import-outside-toplevel

    for number in range(8):
        connection = SMBConnection(options.host, options.host, sess_port=options.port, timeout=30)
        try:
            connection.login(options.user, f"wrong {number}")
            raise AssertionError("a wrong password was accepted")
        except SessionError as error:
            expect(error.getErrorCode() in (0xC000006D, 0xC0000234, 0xC0000022), hex(error.getErrorCode()))
    start = time.monotonic()
    succeed(options, "ls", limit=60)
    expect(time.monotonic() - start < 30, "the right password had to wait too long")


if __name__ == "__main__":
    main()
