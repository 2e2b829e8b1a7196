//! Volumes that others made, and what others read of ours.

#[cfg(target_has_atomic = "64")]
use std::string::ToString;
use std::vec;

#[cfg(target_has_atomic = "64")]
use super::model::Model;
use super::model::Run;
use super::*;

#[test]
fn volumes_made_by_others() {
    let cases: [(Kind, u64, &str, &[&str]); 8] = [
        (Kind::Exfat, 64, "mkfs.exfat", &["-L", "foreign"]),
        (Kind::Exfat, 8, "mkfs.exfat", &["-c", "512"]),
        (Kind::Exfat, 64, "mkfs.exfat", &["-c", "128K"]),
        (Kind::Fat32, 64, "mkfs.fat", &["-F", "32", "-s", "1"]),
        (Kind::Fat32, 300, "mkfs.fat", &["-F", "32"]),
        (Kind::Fat16, 32, "mkfs.fat", &["-F", "16"]),
        (Kind::Fat16, 4, "mkfs.fat", &["-F", "12"]),
        (Kind::Fat16, 16, "mkfs.fat", &["-F", "16", "-f", "1"]),
    ];
    for (kind, mebibytes, program, arguments) in cases {
        let Some(disk) = foreign(mebibytes, program, arguments) else { continue };
        let mut run = Run::new(disk.clone(), 9, 1 << 20, 150_000);
        for _ in 0..800 {
            run.step();
        }
        run.finish(&disk, kind);
    }
}

#[cfg(target_has_atomic = "64")]
#[test]
fn hadris_reads_what_we_wrote() {
    use hadris_fs::MountOptions;
    use hadris_storage::{BlockSize, MemDevice};
    for (kind, mebibytes, cluster) in
        [(Kind::Exfat, 16, 4096), (Kind::Fat32, 40, 512), (Kind::Fat16, 16, 2048)]
    {
        let disk = formatted(mebibytes, kind, Some(cluster));
        let mut run = Run::new(disk.clone(), 42, 1 << 20, 100_000);
        for _ in 0..1500 {
            run.step();
        }
        run.finish(&disk, kind);
        let device = MemDevice::new(disk.image(), BlockSize::new(512).unwrap());
        let count = if kind == Kind::Exfat {
            let mut fs = hadris_fat::exfat::sync::ExFatFs::mount(device, MountOptions::new()).unwrap();
            compare_with_hadris(&mut fs, &run.model)
        } else {
            let mut fs = hadris_fat::sync::FatFs::mount(device, MountOptions::new()).unwrap();
            compare_with_hadris(&mut fs, &run.model)
        };
        assert_eq!(count, run.model.nodes.iter().filter(|node| node.alive).count());
    }
}

/// Compares the whole tree; says how many nodes there were, root included.
#[cfg(target_has_atomic = "64")]
fn compare_with_hadris(fs: &mut impl hadris_fs::sync::FileSystem, model: &Model) -> usize {
    use hadris_fs::{DirCursor, Name};
    let mut todo = vec![(fs.root(), 0)];
    let mut count = 0;
    while let Some((node, expected)) = todo.pop() {
        count += 1;
        match &model.nodes[expected].children {
            None => {
                fs.open(node, hadris_fs::OpenMode::Read).unwrap();
                let mut data = vec![0; model.nodes[expected].data.len() + 10];
                let mut done = 0;
                loop {
                    let got = fs.read(node, done as u64, &mut data[done..]).unwrap();
                    if got == 0 {
                        break;
                    }
                    done += got;
                }
                assert!(data[..done] == model.nodes[expected].data, "{}", model.path(expected));
            }
            Some(children) => {
                let mut cursor = DirCursor::START;
                let mut seen = 0;
                while let Some(entry) = fs.readdir(node, cursor).unwrap() {
                    cursor = entry.next_cursor();
                    let name = entry.name().to_str().unwrap().to_string();
                    let child = children[&name.to_uppercase()];
                    assert_eq!(name, model.nodes[child].name);
                    let found = fs.lookup(node, Name::new(&name)).unwrap();
                    todo.push((found, child));
                    seen += 1;
                }
                assert_eq!(seen, children.len());
            }
        }
    }
    count
}

#[test]
fn fatfs_reads_what_we_wrote() {
    let disk = formatted(40, Kind::Fat32, Some(512));
    let mut run = Run::new(disk.clone(), 43, 1 << 20, 100_000);
    for _ in 0..1500 {
        run.step();
    }
    run.finish(&disk, Kind::Fat32);
    let fs = fatfs::FileSystem::new(std::io::Cursor::new(disk.image()), fatfs::FsOptions::new()).unwrap();
    let mut todo = vec![(fs.root_dir(), 0)];
    while let Some((directory, node)) = todo.pop() {
        let children = run.model.nodes[node].children.as_ref().unwrap();
        let mut seen = 0;
        for entry in directory.iter().map(|entry| entry.unwrap()) {
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            seen += 1;
            let child = children[&name.to_uppercase()];
            assert_eq!(name, run.model.nodes[child].name);
            if entry.is_dir() {
                todo.push((entry.to_dir(), child));
            } else {
                let mut data = vec![];
                std::io::Read::read_to_end(&mut entry.to_file(), &mut data).unwrap();
                assert!(data == run.model.nodes[child].data, "{name}");
            }
        }
        assert_eq!(seen, children.len());
    }
}

/// mkfs.exfat puts the specification's table on its volumes, as Windows does: ours is the same.
#[test]
fn names_are_compared_as_windows_does() {
    let Some(disk) = foreign(64, "mkfs.exfat", &[]) else { return };
    let volume = mount_with(disk, 1 << 20).unwrap();
    let engine = volume.engine.lock();
    let ours = crate::upcase::UpcaseTable::generate();
    let different: Vec<(u16, u16, u16)> = (0..=u16::MAX)
        .map(|unit| (unit, engine.upcase.upper(unit), ours.upper(unit)))
        .filter(|&(_, theirs, ours)| theirs != ours)
        .collect();
    assert_eq!(different, []);
}
