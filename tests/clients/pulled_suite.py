"""The second disk has been pulled: its share answers with errors, the first goes on."""

from smbprotocol.exceptions import SMBResponseException

from samba import succeed
from smbprotocol_suite import Client
from tap import expect, main, test

# Device error, I/O error, no such device, no media, write protected, volume dismounted, device not ready,
# file invalid, disk corrupt, no such file system.
ERRORS = {0xC0000185, 0xC00000E9, 0xC000000E, 0xC0000178, 0xC00000A2, 0xC000026E, 0xC00000A3, 0xC0000098, 0xC0000032,
          0xC000003F, 0xC0000102, 0xC00000CC, 0xC0000043}


@test(limit=100)
def the_pulled_disk_answers_with_an_error(options, _work):
    status = 0
    with Client(options, share=options.share2, tree=False) as client:
        try:
            client.tree.connect(require_secure_negotiate=False)
            file = client.open("after the disk was pulled")
            for block in range(64):
                file.write(bytes(65_536), block * 65_536)
            file.flush()
            file.close()
        except SMBResponseException as error:
            status = error.status
    expect(status != 0, "4 MiB were written and flushed to a disk that is not there")
    expect(status in ERRORS, f"status {status:#x} does not say that a device failed")


@test(limit=60)
def the_other_disk_goes_on(options, work):
    with open(f"{work}/f", "wb") as file:
        file.write(b"still here" * 1000)
    succeed(options, f"put {work}/f still-here; get still-here {work}/g; del still-here", limit=50)
    with open(f"{work}/g", "rb") as file:
        expect(file.read() == b"still here" * 1000, "the file came back changed")


if __name__ == "__main__":
    main()
