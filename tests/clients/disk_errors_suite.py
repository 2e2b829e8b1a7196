"""A disk with bad sectors and a flush that fails: errors reach the requests concerned, and nothing else.

`cargo xtask test` runs the parts at three power-ons of one machine: on a good disk, on one behind QEMU's blkdebug that
fails at the two marks and after some flushes, and on the good one again.
"""

from smbprotocol.exceptions import SMBResponseException

from pulled_suite import ERRORS
from smbprotocol_suite import Client
from tap import expect, main, test

CHUNK = 65_536
VICTIM = 64 * 16
# Chunks of the victim, and what the sector at their start holds: the rules of blkdebug are made for these.
BAD_READ = 700, b"this sector cannot be read " * 20
BAD_WRITE = 300, b"this sector cannot be written " * 20
BLOCKS = 300


def chunk(number):
    for place, mark in (BAD_READ, BAD_WRITE):
        if number == place:
            return mark[:512] + bytes(CHUNK - 512)
    return number.to_bytes(4, "big") * (CHUNK // 4)


def failure(call, *arguments):
    """The status that a call fails with, if it says that a device did; 0 if it succeeds."""
    try:
        call(*arguments)
    except SMBResponseException as error:
        expect(error.status in ERRORS, f"status {error.status:#x} does not say that a device failed")
        return error.status
    return 0


@test(limit=120)
def before_write_the_files(options, _work):
    with Client(options, share=options.share2) as client:
        file = client.open("victim")
        for number in range(VICTIM):
            file.write(chunk(number), number * CHUNK)
        file.flush()
        file.close()


@test(limit=120)
def during_a_bad_sector_fails_its_own_reads_only(options, _work):
    with Client(options, share=options.share2) as client:
        file = client.open("victim")
        for number in range(VICTIM):
            wanted = chunk(number)
            if number == BAD_READ[0]:
                expect(failure(file.read, number * CHUNK, CHUNK), "the bad sector was read")
            else:
                expect(file.read(number * CHUNK, CHUNK) == wanted, f"chunk {number} is not as it was written")
        file.close()


@test(limit=120)
def during_a_failed_write_is_not_acknowledged(options, _work):
    with Client(options, share=options.share2) as client:
        file, other = client.open("victim"), client.open("other")
        file.write(b"new" * 1000, BAD_WRITE[0] * CHUNK)
        expect(failure(file.flush), "FLUSH of what could not be written was acknowledged")
        other.write(b"fine" * 1000, 0)
        other.flush()
        expect(failure(file.flush), "the second FLUSH was acknowledged")
        # The client's data is kept while the disk does not take it.
        expect(file.read(BAD_WRITE[0] * CHUNK, 3000) == b"new" * 1000, "what was written is lost")
        file.close()
        other.close()


@test(limit=120)
def during_a_failed_flush_is_not_acknowledged(options, _work):
    failed = 0
    with Client(options, share=options.share2) as client:
        file = client.open("flushed")
        for number in range(BLOCKS):
            file.write(number.to_bytes(2, "big") * 2048, number * 4096)
            failed += failure(file.flush) != 0
        expect(failed > 0, "no FLUSH failed, though the disk's did")
        file.flush()
        file.close()
    with Client(options) as client:
        file = client.open("the other disk")
        file.write(b"fine", 0)
        file.flush()
        file.close()


@test(limit=60)
def after_what_was_acknowledged_is_there(options, _work):
    with Client(options, share=options.share2) as client:
        file = client.open("flushed")
        for number in range(BLOCKS):
            expect(file.read(number * 4096, 4096) == number.to_bytes(2, "big") * 2048, f"block {number} is lost")
        file.close()
        file = client.open("other")
        expect(file.read(0, 4000) == b"fine" * 1000, "the other file is lost")
        file.close()


if __name__ == "__main__":
    main()
