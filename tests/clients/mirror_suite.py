"""Clients write and verify while the mirror's disks fail and come back, until the file `stop` is in the directory."""

import os
import random
from concurrent.futures import ThreadPoolExecutor

from smbprotocol_suite import Client
from tap import expect, main, test

CLIENTS = 4
FILES = 12


def content(client, round_number):
    generator = random.Random(f"mirror {client} {round_number}")
    return generator.randbytes(generator.randrange(1, 700_000))


def write(client, name, data):
    file = client.open(name)
    for at in range(0, len(data), 1 << 18):
        file.write(data[at:at + (1 << 18)], at)
    file.flush()
    file.close()


def verify(client, name, data):
    file = client.open(name)
    found = b""
    while len(found) < len(data):
        found += file.read(len(found), min(1 << 18, len(data) - len(found)))
    file.close()
    expect(found == data, f"{name} came back changed")


@test(limit=600)
def clients_notice_nothing(options, _work):
    """No request fails, and all data is right: at once, later, and by another client in the end."""
    stop = os.path.join(options.directory, "stop")

    def work(number):
        port = options.port if number % 2 == 0 else options.port2 or options.port
        generator = random.Random(number)
        kept = {}
        rounds = 0
        with Client(options, port=port) as client:
            while not os.path.exists(stop):
                rounds += 1
                name = f"mirror {number} {generator.randrange(FILES)}"
                data = content(number, rounds)
                # Longer than before, or a new file: what is left of an old one would be in the way.
                if name in kept and len(kept[name]) > len(data):
                    data += kept[name][len(data):]
                write(client, name, data)
                kept[name] = data
                verify(client, name, data)
                other = generator.choice(sorted(kept))
                verify(client, other, kept[other])
        return rounds, kept

    with ThreadPoolExecutor(CLIENTS) as pool:
        outcomes = [pool.submit(work, number) for number in range(CLIENTS)]
        results = [outcome.result() for outcome in outcomes]
    print(f"# {[rounds for rounds, _ in results]} rounds", flush=True)
    expect(all(rounds > 3 for rounds, _ in results), "a client has hardly worked")
    with Client(options) as client:
        for _, kept in results:
            for name, data in kept.items():
                verify(client, name, data)


if __name__ == "__main__":
    main()
