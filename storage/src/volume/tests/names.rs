//! The names that a file has.

use super::*;

#[test]
fn fat_opens_a_file_by_its_stored_short_name() {
    for (kind, stored) in [(Kind::Fat32, true), (Kind::Fat16, true), (Kind::Exfat, false)] {
        let disk = formatted(if kind == Kind::Fat32 { 40 } else { 16 }, kind, Some(512));
        let volume = mount_with(disk, 1 << 20).unwrap();
        let file = volume.create(&units("a long name.text"), NodeKind::File, FileAttributes(0)).unwrap();
        let mut short = Vec::new();
        volume.short_name(file, &mut short).unwrap();
        assert_eq!(short, units(if stored { "ALONGN~1.TEX" } else { "" }));
        let found = volume.open(&units("alongn~1.tex"));
        assert_eq!(found, if stored { Ok(file) } else { Err(VolumeError::NotFound) });
        // It goes with its file.
        volume.rename(file, &units("another name"), false).unwrap();
        assert_eq!(volume.open(&units("alongn~1.tex")), Err(VolumeError::NotFound));
        short.clear();
        volume.short_name(file, &mut short).unwrap();
        assert_eq!(short, units(if stored { "ANOTHE~1" } else { "" }));
        // A name that is short itself has none beside it.
        volume.rename(file, &units("PLAIN.TXT"), false).unwrap();
        short.clear();
        volume.short_name(file, &mut short).unwrap();
        assert_eq!(short, []);
    }
}
