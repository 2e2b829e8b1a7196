//! Structures of MS-FSCC that clients send, directory listings within a bound, and session requests.
//! Input: a byte that chooses, then the structure.

use smb::fscc::{
    BasicChange, DirectoryClass, DirectoryEntry, DirectoryWriter, ExtendedAttributes, FileAttributes,
    FileTime, RenameRequest, allocation_size, disposition, disposition_extended, end_of_file, mode, position,
};
use smb::netbios::{NetBiosName, SessionRequest, parse_direct, parse_session};
use smb::reader::Writer;

use crate::input::{Input, units};

/// The target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() {
        0 => {
            let bytes = input.rest();
            let _ = BasicChange::parse(bytes);
            let _ = disposition(bytes);
            let _ = disposition_extended(bytes);
            let _ = mode(bytes);
            for size in [allocation_size(bytes), end_of_file(bytes), position(bytes)] {
                assert!(size.is_err() || size.is_ok_and(|size| size <= i64::MAX as u64));
            }
        }
        1 | 2 => {
            let extended = input.byte() != 0;
            let bytes = input.rest();
            if let Ok(request) = RenameRequest::parse(bytes, extended) {
                assert!(request.name.len() * 2 <= bytes.len());
            }
        }
        3 => {
            let bytes = input.rest();
            // Every entry takes nine bytes at least: the walk ends.
            assert!(ExtendedAttributes::new(bytes).count() <= bytes.len() / 9 + 1);
        }
        4 => {
            let Some(class) = DirectoryClass::from_wire(input.byte()) else { return };
            let capacity = usize::from(input.short());
            let mut out = vec![0xEE; 5];
            let mut writer = DirectoryWriter::new(class, Writer::new(&mut out), capacity);
            let mut added = 0;
            while !input.is_empty() {
                let name = units(input.piece());
                let short_name = units(input.piece());
                added += usize::from(writer.push(&entry(&name, &short_name)));
            }
            assert!(out.len() <= 5 + capacity);
            // The chain visits what was added, and ends.
            let mut visited = 0;
            let mut at = (added > 0).then_some(5);
            while let Some(start) = at {
                visited += 1;
                let next = u32::from_le_bytes(out[start..start + 4].try_into().unwrap());
                at = (next != 0).then_some(start + next as usize);
            }
            assert_eq!(visited, added);
        }
        _ => {
            let bytes = input.rest();
            if let Some(header) = bytes.first_chunk() {
                let _ = parse_direct(*header);
                let _ = parse_session(*header);
            }
            if let Ok(request) = SessionRequest::parse(bytes) {
                let mut out = Vec::new();
                request.called.emit(&mut out);
                request.calling.emit(&mut out);
                assert_eq!(SessionRequest::parse(&out), Ok(request));
                let NetBiosName(_) = request.called;
            }
        }
    }
}

fn entry<'a>(name: &'a [u16], short_name: &'a [u16]) -> DirectoryEntry<'a> {
    DirectoryEntry {
        name,
        short_name,
        created: FileTime(1),
        accessed: FileTime(2),
        modified: FileTime(3),
        changed: FileTime(4),
        attributes: FileAttributes::ARCHIVE,
        size: 5,
        allocated: 6,
        file_id: 7,
        index: 0,
    }
}
