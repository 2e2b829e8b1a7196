//! Random operation streams, judged by the model and by foreign checkers.

use super::model::Run;
use super::*;

fn stream(kind: Kind, mebibytes: u64, cluster: u32, seed: u64, steps: usize, largest: u64) -> Arc<RamDisk> {
    let disk = formatted(mebibytes, kind, Some(cluster));
    let mut run = Run::new(disk.clone(), seed, 1 << 20, largest);
    for step in 0..steps {
        if run.trace {
            std::eprint!("step {step}: ");
        }
        run.step();
    }
    run.check_all();
    run.finish(&disk, kind);
    // The same again with a journal.
    crate::format::volume(&*disk, 0, &options(kind, Some(cluster))).unwrap();
    let journal = Arc::new(RamDisk::new(400 + 256 * (seed % 4), 512));
    let mut run = Run::journaled(disk.clone(), Some(journal), seed + 50, 1 << 20, largest);
    for _ in 0..steps {
        run.step();
    }
    run.check_all();
    run.finish(&disk, kind);
    disk
}

#[test]
fn exfat_streams() {
    for seed in 0..ROUNDS {
        stream(Kind::Exfat, 16, 4096, seed, 1500, 200_000);
        stream(Kind::Exfat, 8, 512, seed + 100, 1500, 60_000);
        stream(Kind::Exfat, 64, 32768, seed + 200, 1500, 400_000);
    }
}

#[test]
fn fat32_streams() {
    for seed in 0..ROUNDS {
        stream(Kind::Fat32, 40, 512, seed, 1500, 200_000);
    }
}

#[test]
fn fat16_streams() {
    for seed in 0..ROUNDS {
        stream(Kind::Fat16, 16, 2048, seed, 1500, 200_000);
        stream(Kind::Fat16, 5, 1024, seed + 100, 1000, 100_000);
    }
}

#[test]
fn a_full_volume_says_so_and_recovers() {
    for (kind, mebibytes, cluster) in [(Kind::Exfat, 4, 1024), (Kind::Fat16, 5, 1024)] {
        for seed in 0..ROUNDS {
            stream(kind, mebibytes, cluster, seed, 2500, 1_500_000);
        }
    }
}

#[test]
fn large_blocks() {
    for kind in [Kind::Exfat, Kind::Fat32] {
        let disk = Arc::new(RamDisk::new((600 << 20) / 4096, 4096));
        crate::format::volume(&*disk, 0, &options(kind, None)).unwrap();
        let mut run = Run::new(disk, 4, 1 << 20, 150_000);
        for _ in 0..1500 {
            run.step();
        }
        run.remount();
        run.check_all();
    }
}

/// The same stream gives the same bytes on every machine: what is here was computed on a little-endian one.
#[test]
fn the_image_does_not_depend_on_the_machine() {
    let sums: Vec<u32> = [(Kind::Exfat, 8, 4096), (Kind::Fat32, 40, 512), (Kind::Fat16, 16, 2048)]
        .map(|(kind, mebibytes, cluster)| {
            let disk = formatted(mebibytes, kind, Some(cluster));
            let mut run = Run::new(disk.clone(), 1000, 1 << 20, 50_000);
            for _ in 0..500 {
                run.step();
            }
            run.finish(&disk, kind);
            crc32fast::hash(&disk.image())
        })
        .to_vec();
    assert_eq!(sums, [599_138_107, 2_659_294_768, 2_587_158_786]);
}

#[test]
fn many_clients_at_once() {
    let disk = Arc::new(RamDisk::new(64 << 11, 512));
    crate::format::volume(&*disk, 0, &options(Kind::Exfat, None)).unwrap();
    let journal: Arc<dyn BlockDevice> = Arc::new(RamDisk::new(1 << 11, 512));
    let volume = mount_journaled(disk.clone(), Some(journal), 2 << 20).unwrap();
    let volume = &volume;
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            scope.spawn(move || {
                let mut random = Generator::new(thread);
                let home = format!("client {thread}");
                let node = volume.create(&units(&home), NodeKind::Directory, FileAttributes(0)).unwrap();
                volume.close(node).unwrap();
                for round in 0..60 {
                    let path = units(&format!("{home}\\file {round}"));
                    let node = volume.create(&path, NodeKind::File, FileAttributes(0)).unwrap();
                    let data = fill(&mut random, 150_000);
                    for (number, piece) in data.chunks(20_000).enumerate() {
                        volume.write(node, number as u64 * 20_000, piece).unwrap();
                    }
                    if random.once_in(4) {
                        volume.flush(node).unwrap();
                    }
                    for _ in 0..5 {
                        let offset = random.below(150_000);
                        let read = volume.read(node, offset, 30_000).unwrap().to_vec();
                        assert!(read == data[offset as usize..(offset as usize + 30_000).min(150_000)]);
                    }
                    let other = units(&format!("moved {thread} {round}"));
                    volume.rename(node, &other, false).unwrap();
                    if random.once_in(2) {
                        volume.remove(node).unwrap();
                    }
                    volume.close(node).unwrap();
                    if random.once_in(10) {
                        volume.sync().unwrap();
                    }
                }
            });
        }
    });
    volume.unmount().unwrap();
    assert_sound(&disk, Kind::Exfat);
}
