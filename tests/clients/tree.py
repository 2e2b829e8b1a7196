"""Trees and files with known content, and their hashes."""

import hashlib
import os
import random

# Folder and file names from many scripts: composed and decomposed letters, wide ones, ones outside the BMP, spaces,
# dots, a name that differs from another only in its accents.
WORDS = [
    "Bilder", "Größe", "Ærø", "naïve café", "Ελληνικά", "Кириллица", "日本語", "한국어", "中文 文件", "עברית",
    "ไทย", "e\u0301te\u0301", "emoji 😀", "a.b.c", "UPPER lower", "x" * 40, "№ 7", "fin_", "Ångström", "grose",
]


def make_file(path, size, seed):
    """Writes `size` bytes that `seed` determines and do not repeat in short periods."""
    generator = random.Random(seed)
    with open(path, "wb") as file:
        while size > 0:
            block = generator.randbytes(min(size, 1 << 20))
            file.write(block)
            size -= len(block)


def make_tree(root, files, folders, seed=1):
    """Makes `files` small files in `folders` folders, some of them nested, with Unicode names."""
    generator = random.Random(seed)
    places = []
    for number in range(folders):
        name = f"{WORDS[number % len(WORDS)]} {number}"
        parent = root if number < 3 or generator.random() < 0.6 else generator.choice(places)
        # Five levels are enough to try nesting.
        if parent.count(os.sep) - root.count(os.sep) >= 5:
            parent = root
        place = os.path.join(parent, name)
        os.makedirs(place)
        places.append(place)
    for number in range(files):
        size = generator.choice([0, 1, 100, 511, 512, 513, 4095, 4096, 4097, generator.randrange(40_000)])
        name = f"{WORDS[generator.randrange(len(WORDS))]}-{number}.bin"
        make_file(os.path.join(places[number % len(places)], name), size, number)


def file_hash(path):
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hashes(root):
    """Path relative to `root` -> SHA-256 for every file, -> None for every folder."""
    found = {}
    for place, folders, files in os.walk(root):
        relative = os.path.relpath(place, root)
        for name in folders:
            found[os.path.normpath(os.path.join(relative, name))] = None
        for name in files:
            found[os.path.normpath(os.path.join(relative, name))] = file_hash(os.path.join(place, name))
    return found


def difference(found, expected):
    """A few words about how two trees differ; empty when they do not."""
    missing = sorted(set(expected) - set(found))
    extra = sorted(set(found) - set(expected))
    changed = sorted(path for path in set(found) & set(expected) if found[path] != expected[path])
    if not (missing or extra or changed):
        return ""
    return f"{len(missing)} missing {missing[:2]}, {len(extra)} extra {extra[:2]}, {len(changed)} changed {changed[:2]}"
