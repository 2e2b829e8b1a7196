//! Foreign checkers as judges of a disk.

use alloc::format;
use alloc::string::String;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::RamDisk;
use crate::format::Kind;

/// Writes the disk to a (sparse) file and runs a foreign checker over it. `None` if the checker is not installed.
pub fn check(disk: &RamDisk, program: &str, arguments: &[&str]) -> Option<Result<(), String>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("storage-{}-{number}.img", std::process::id()));
    let written = File::create(&path).and_then(|mut file| {
        file.set_len(disk.bytes())?;
        let mut result = Ok(());
        disk.for_each_chunk(|offset, bytes| {
            let written = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes));
            if result.is_ok() {
                result = written;
            }
        });
        result
    });
    if let Err(error) = written {
        return Some(Err(format!("{}: {error}", path.display())));
    }
    // Looked for by its file: under qemu-user, starting what is not there is not an error.
    let output = ["/usr/sbin/", "/sbin/", "/usr/bin/", "/usr/local/sbin/"]
        .iter()
        .map(|place| format!("{place}{program}"))
        .find(|program| Path::new(program).exists())
        .and_then(|program| Command::new(program).args(arguments).arg(&path).output().ok());
    let _ = std::fs::remove_file(&path);
    let Some(output) = output else {
        std::eprintln!("{program} is not installed: not judged by it");
        return None;
    };
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some(if output.status.success() { Ok(()) } else { Err(text) })
}

/// What fsck says of a volume that fills `disk`. Nothing, if it is not installed.
pub fn fsck(disk: &RamDisk, kind: Kind) -> Result<(), String> {
    let program = if kind == Kind::Exfat { "fsck.exfat" } else { "fsck.fat" };
    check(disk, program, &["-n"]).unwrap_or(Ok(()))
}
