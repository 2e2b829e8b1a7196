//! Writes beyond ValidDataLength: what they cost, what is read, and what a power cut leaves.

use std::vec;

use super::*;
use crate::Slice;

const MIB: u64 = 1 << 20;
/// Blocks of the journal in front of the volume.
const JOURNAL: u64 = 2048;

fn divided(mebibytes: u64, kind: Kind, cluster: Option<u32>) -> Arc<RamDisk> {
    let disk = Arc::new(RamDisk::new(JOURNAL + mebibytes * 2048, 512));
    let volume = Slice::new(disk.clone(), JOURNAL, mebibytes * 2048).unwrap();
    crate::format::volume(&volume, 0, &options(kind, cluster)).unwrap();
    disk
}

fn mount_divided(disk: Arc<RamDisk>, cache: usize) -> Volume<Lock> {
    let volume = Slice::new(disk.clone(), JOURNAL, disk.blocks() - JOURNAL).unwrap();
    mount_journaled(Arc::new(volume), Some(Arc::new(Slice::new(disk, 0, JOURNAL).unwrap())), cache).unwrap()
}

fn assert_divided_sound(disk: &RamDisk, kind: Kind) {
    assert_sound(&RamDisk::from_image(&disk.image()[JOURNAL as usize * 512..]), kind);
}

fn create(volume: &Volume<Lock>, name: &str) -> Node {
    volume.create(&units(name), NodeKind::File, FileAttributes(0)).unwrap()
}

fn written(volume: &Volume<Lock>) -> u64 {
    volume.cache.statistics().bytes_written
}

/// As Windows and macOS copy: the size first, then pieces, several in flight, so that they overtake each other.
#[test]
fn a_copy_whose_pieces_overtake_each_other_is_written_once() {
    for kind in [Kind::Exfat, Kind::Fat32] {
        let disk = divided(300, kind, None);
        let volume = mount_divided(disk.clone(), 8 << 20);
        let mut random = Generator::new(5);
        let node = create(&volume, "copy");
        let pieces = 200;
        volume.set_size(node, pieces * MIB).unwrap();
        let mut order: Vec<u64> = (0..pieces).collect();
        for window in order.chunks_mut(8) {
            for place in 1..window.len() {
                window.swap(place, random.below(place as u64 + 1) as usize);
            }
        }
        let before = written(&volume);
        for (number, &piece) in order.iter().enumerate() {
            volume.write(node, piece * MIB, &vec![piece as u8 + 1; MIB as usize]).unwrap();
            if number % 10 == 9 {
                volume.sync().unwrap();
            }
        }
        volume.close(node).unwrap();
        volume.sync().unwrap();
        let cost = written(&volume) - before;
        assert!(cost < (pieces + 3) * MIB, "{kind:?}: {cost} bytes for {} MiB", pieces);
        let node = volume.open(&units("copy")).unwrap();
        for piece in 0..pieces {
            let got = volume.read(node, piece * MIB, MIB as u32).unwrap();
            assert!(got.to_vec() == vec![piece as u8 + 1; MIB as usize]);
        }
        volume.close(node).unwrap();
        volume.unmount().unwrap();
        assert_divided_sound(&disk, kind);
    }
}

#[test]
fn one_byte_far_away_costs_one_page_until_it_has_to_be_safe() {
    let disk = divided(1200, Kind::Exfat, None);
    let volume = mount_divided(disk.clone(), 8 << 20);
    let node = create(&volume, "far");
    let far = 1000 * MIB + 5;
    let before = written(&volume);
    volume.write(node, far, b"x").unwrap();
    volume.sync().unwrap();
    volume.sync().unwrap();
    assert!(written(&volume) - before < MIB, "{}", written(&volume) - before);
    let reads = volume.cache.statistics().pages_read;
    assert_eq!(volume.read(node, far - 300_000, 1_000_000).unwrap().to_vec().len(), 300_001);
    assert_eq!(volume.read(node, far - 3, 10).unwrap().to_vec(), b"\0\0\0x");
    assert_eq!(volume.cache.statistics().pages_read, reads, "zeros are not read");
    // Whoever writes in order before it has nothing filled under their hands.
    let before = written(&volume);
    for number in 0..100 {
        volume.write(node, number * MIB, &vec![7; MIB as usize]).unwrap();
        if number % 5 == 0 {
            volume.sync().unwrap();
        }
    }
    volume.sync().unwrap();
    assert!(written(&volume) - before < 102 * MIB);
    // A power cut now leaves what was written in order, and no trace of the rest.
    let after = mount_divided(Arc::new(disk.duplicate()), 8 << 20);
    let found = after.open(&units("far")).unwrap();
    assert_eq!(after.metadata(found).unwrap().size, 100 * MIB);
    // A flush fills what is left.
    let before = written(&volume);
    volume.flush(node).unwrap();
    let cost = written(&volume) - before;
    assert!((900 * MIB..903 * MIB).contains(&cost), "{cost}");
    let after = mount_divided(Arc::new(disk.duplicate()), 8 << 20);
    let found = after.open(&units("far")).unwrap();
    assert_eq!(after.metadata(found).unwrap().size, far + 1);
    assert_eq!(after.read(found, far - 3, 10).unwrap().to_vec(), b"\0\0\0x");
    assert_eq!(after.read(found, 100 * MIB - 1, 2).unwrap().to_vec(), [7, 0]);
}

/// What lies beyond a gap that nobody fills is safe after a while all the same.
#[test]
fn the_timer_fills_what_nobody_else_does() {
    let disk = divided(200, Kind::Exfat, None);
    let volume = mount_divided(disk.clone(), 8 << 20);
    let node = create(&volume, "far");
    volume.set_size(node, 150 * MIB).unwrap();
    volume.write(node, 100 * MIB, b"x").unwrap();
    for _ in 0..12 {
        let before = written(&volume);
        volume.sync().unwrap();
        assert!(written(&volume) - before < 18 * MIB, "others wait for the timer");
    }
    let after = mount_divided(Arc::new(disk.duplicate()), 8 << 20);
    let found = after.open(&units("far")).unwrap();
    assert_eq!(after.metadata(found).unwrap().size, 150 * MIB);
    assert_eq!(after.read(found, 100 * MIB - 1, 3).unwrap().to_vec(), b"\0x\0");
}

/// Pieces all over a file that has its size, as BitTorrent writes them: at most everything is written twice.
#[test]
fn random_pieces_in_a_file_of_full_size() {
    for kind in [Kind::Exfat, Kind::Fat32] {
        let disk = divided(300, kind, None);
        let volume = mount_divided(disk.clone(), 8 << 20);
        let mut random = Generator::new(6);
        let node = create(&volume, "pieces");
        let (pieces, size) = (1000u64, 256 << 10);
        let name = |piece: u64| (piece % 200 + 1) as u8;
        volume.set_size(node, pieces * size).unwrap();
        let mut order: Vec<u64> = (0..pieces).collect();
        for place in 1..order.len() {
            order.swap(place, random.below(place as u64 + 1) as usize);
        }
        let before = written(&volume);
        for (number, &piece) in order.iter().enumerate() {
            volume.write(node, piece * size, &vec![name(piece); size as usize]).unwrap();
            let ranges = volume.engine.lock().nodes.get(node.slot).unwrap().beyond.as_slice().len();
            assert!(ranges <= 64);
            if number % 100 == 50 {
                let other = order[random.below(pieces) as usize];
                let is_there = order[..=number].contains(&other);
                let got = volume.read(node, other * size + 1000, 1000).unwrap().to_vec();
                assert!(got == vec![if is_there { name(other) } else { 0 }; 1000]);
            }
        }
        volume.flush(node).unwrap();
        let cost = written(&volume) - before;
        std::eprintln!("{kind:?}: {} MiB for {} MiB", cost / MIB, pieces * size / MIB);
        assert!(cost < pieces * size * 2 + 4 * MIB);
        let after = mount_divided(Arc::new(disk.duplicate()), 8 << 20);
        let node = after.open(&units("pieces")).unwrap();
        for piece in 0..pieces {
            let got = after.read(node, piece * size, size as u32).unwrap();
            assert!(got.to_vec() == vec![name(piece); size as usize], "{kind:?}: {piece}");
        }
    }
}

/// Others get their turns while a flush or a close fills a large gap.
#[test]
fn a_large_gap_holds_nobody_up() {
    let disk = divided(700, Kind::Exfat, None);
    let volume = &mount_divided(disk, 8 << 20);
    let other = create(volume, "other");
    volume.write(other, 0, &[1; 5000]).unwrap();
    for close in [false, true] {
        let node = create(volume, if close { "closed" } else { "flushed" });
        volume.write(node, 300 * MIB, b"x").unwrap();
        let done = &AtomicU32::new(0);
        let mut rounds = 0;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if close { volume.close(node) } else { volume.flush(node) }.unwrap();
                done.store(1, Ordering::Relaxed);
            });
            while done.load(Ordering::Relaxed) == 0 {
                assert_eq!(volume.read(other, 0, 5000).unwrap().len(), 5000);
                volume.write(other, 0, &[rounds as u8; 100]).unwrap();
                rounds += 1;
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
        assert!(rounds > 20, "{rounds}");
    }
}

/// Any writes, cuts, growth, flushes and rounds of the timer: reads agree with a plain array, and after a power cut at any
/// flush all of it is there.
#[test]
fn reads_are_those_of_a_plain_file() {
    let cases = [(Kind::Exfat, 512), (Kind::Exfat, 32768), (Kind::Fat32, 512), (Kind::Fat16, 2048)];
    for (kind, cluster) in cases {
        for seed in 0..ROUNDS * 4 {
            let mut random = Generator::new(seed);
            let disk = divided(if kind == Kind::Fat32 { 36 } else { 12 }, kind, Some(cluster));
            // Less than the file has.
            let volume = mount_divided(disk.clone(), 512 << 10);
            // Old blocks, none of which may ever be seen again.
            let old = create(&volume, "old");
            volume.write(old, 0, &vec![0xEE; 8 << 20]).unwrap();
            volume.flush(old).unwrap();
            volume.remove(old).unwrap();
            volume.close(old).unwrap();
            volume.sync().unwrap();
            let mut node = create(&volume, "file");
            let mut model: Vec<u8> = vec![];
            let most = 2 << 20;
            for step in 0..1500 {
                match random.below(100) {
                    0..60 => {
                        let offset = match random.below(3) {
                            0 => random.below(most),
                            1 => random.below(most) / 512 * 512,
                            _ => volume.engine.lock().nodes.get(node.slot).unwrap().record.valid,
                        };
                        let longest = [30_000, 513, 3000, 3000, 3000][random.below(5) as usize];
                        let length = 1 + random.below(longest);
                        let byte = if random.once_in(6) { 0 } else { 1 + random.below(200) as u8 };
                        volume.write(node, offset, &vec![byte; length as usize]).unwrap();
                        let end = (offset + length) as usize;
                        model.resize(model.len().max(end), 0);
                        model[offset as usize..end].fill(byte);
                    }
                    60..85 => {
                        let offset = random.below(most) as usize;
                        let length = random.below(60_000) as usize;
                        let got = volume.read(node, offset as u64, length as u32).unwrap().to_vec();
                        let start = offset.min(model.len());
                        assert!(
                            got == model[start..model.len().min(offset + length)],
                            "{kind:?} {seed} {step}"
                        );
                    }
                    85..92 => {
                        let size = match random.below(3) {
                            0 => random.below(most),
                            _ => model.len() as u64 * (80 + random.below(25)) / 100,
                        };
                        volume.set_size(node, size).unwrap();
                        model.resize(size as usize, 0);
                    }
                    92..96 => volume.sync().unwrap(),
                    96 if random.once_in(3) => {
                        volume.close(node).unwrap();
                        node = volume.open(&units("file")).unwrap();
                    }
                    97 if random.once_in(2) => {
                        let to = units(if random.once_in(2) { "file" } else { "FILE" });
                        volume.rename(node, &to, false).unwrap();
                    }
                    98 if random.once_in(2) => {
                        volume.flush(node).unwrap();
                        let after = mount_divided(Arc::new(disk.duplicate()), 4 << 20);
                        let node = after.open(&units("file")).unwrap();
                        assert!(
                            after.read(node, 0, u32::MAX).unwrap().to_vec() == model,
                            "{kind:?} {seed} {step}"
                        );
                    }
                    // A power cut at any time: nothing but what the file once had, or zeros.
                    99 => {
                        let after = mount_divided(Arc::new(disk.duplicate()), 4 << 20);
                        if let Ok(node) = after.open(&units("file")) {
                            let bytes = after.read(node, 0, u32::MAX).unwrap().to_vec();
                            assert!(!bytes.contains(&0xEE), "{kind:?} {seed} {step}: old blocks");
                        }
                    }
                    _ => (),
                }
            }
            for (place, part) in model.chunks(100_000).enumerate() {
                assert!(volume.read(node, place as u64 * 100_000, 100_000).unwrap().to_vec() == part);
            }
            volume.close(node).unwrap();
            volume.unmount().unwrap();
            let volume = mount_divided(disk.clone(), 4 << 20);
            let node = volume.open(&units("file")).unwrap();
            assert!(volume.read(node, 0, u32::MAX).unwrap().to_vec() == model);
            volume.close(node).unwrap();
            volume.unmount().unwrap();
            assert_divided_sound(&disk, kind);
        }
    }
}
