//! Damaged volumes and failing disks: errors are fine, panics and endless loops are not.

use std::vec;

use super::model::Run;
use super::*;
use crate::test_devices::{Faults, FaultyDisk};

/// Does a bit of everything on a volume that may be damaged: errors are fine, panics and endless loops are not.
pub(crate) fn exercise(volume: &Volume<Lock>) {
    let mut todo = vec![(vec![], 0)];
    let mut budget = 400;
    while let Some((path, depth)) = todo.pop() {
        let Ok(node) = volume.open(&path) else { continue };
        let mut names = vec![];
        let _ = volume.list(node, 0, &mut |entry| {
            names.push((entry.name.to_vec(), entry.metadata.kind));
            names.len() < 100
        });
        let _ = volume.close(node);
        for (name, kind) in names {
            budget -= 1;
            if budget == 0 {
                return;
            }
            let mut below = path.clone();
            if !below.is_empty() {
                below.push(u16::from(b'\\'));
            }
            below.extend_from_slice(&name);
            if kind == NodeKind::Directory && depth < 6 {
                todo.push((below.clone(), depth + 1));
            }
            let Ok(node) = volume.open(&below) else { continue };
            let _ = volume.read(node, 0, 50_000);
            let _ = volume.read(node, 3 << 20, 50_000);
            let _ = volume.path(node, &mut vec![]);
            match budget % 5 {
                0 => drop(volume.write(node, 1000, &[1; 20_000])),
                1 => drop(volume.set_size(node, 500)),
                2 => drop(volume.remove(node)),
                3 => {
                    let mut other = below.clone();
                    other.push(u16::from(b'x'));
                    let _ = volume.rename(node, &other, true);
                }
                _ => (),
            }
            let _ = volume.close(node);
        }
        let mut new = path.clone();
        if !new.is_empty() {
            new.push(u16::from(b'\\'));
        }
        new.extend(units("new"));
        for kind in [NodeKind::File, NodeKind::Directory] {
            if let Ok(node) = volume.create(&new, kind, FileAttributes(0)) {
                let _ = volume.write(node, 0, &[2; 5000]);
                let _ = volume.close(node);
            }
        }
    }
    let _ = volume.sync();
}

#[test]
fn damaged_volumes_give_errors() {
    for (kind, mebibytes, cluster) in
        [(Kind::Exfat, 16, 4096), (Kind::Fat32, 40, 512), (Kind::Fat16, 16, 2048), (Kind::Exfat, 4, 512)]
    {
        let disk = formatted(mebibytes, kind, Some(cluster));
        let mut run = Run::new(disk.clone(), 77, 1 << 20, 100_000);
        for _ in 0..700 {
            run.step();
        }
        run.finish(&disk, kind);
        // Where metadata lies: bytes that are not 0, in the first part and wherever directories are.
        let image = disk.image();
        let mut random = Generator::new(5);
        for round in 0..ROUNDS * 40 {
            let damaged = Arc::new(disk.duplicate());
            for _ in 0..1 + random.below(40) {
                let at = loop {
                    let limit = if round % 2 == 0 { image.len() as u64 / 8 } else { image.len() as u64 };
                    let at = random.below(limit);
                    if image[at as usize] != 0 {
                        break at;
                    }
                };
                let value = match random.below(3) {
                    0 => image[at as usize] ^ 1 << random.below(8),
                    1 => 0xFF,
                    _ => random.bits() as u8,
                };
                damaged.poke(at, &[value]);
            }
            if let Ok(volume) = mount_with(damaged, 1 << 20) {
                exercise(&volume);
                let _ = volume.unmount();
            }
        }
    }
}

#[test]
fn a_failing_disk_gives_errors() {
    for seed in 0..20 {
        let disk = formatted(16, Kind::Exfat, Some(4096));
        let faulty = Arc::new(FaultyDisk::new(disk.clone(), seed, Faults::default()));
        let volume = mount_with(faulty.clone(), 1 << 20).unwrap();
        exercise(&volume);
        faulty.set_faults(Faults { read: 10, write: 10, flush: 10 });
        for _ in 0..5 {
            exercise(&volume);
        }
        faulty.pull(true);
        exercise(&volume);
        let _ = volume.unmount();
    }
}
