//! What a listing of a directory answers (MS-FSCC 2.4: the directory classes).

use alloc::vec::Vec;

use super::file_information::byte_length;
use crate::fscc::{FileAttributes, FileTime};
use crate::reader::Writer;

/// The classes of directory entries, by their MS-FSCC 2.4 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DirectoryClass {
    /// FileDirectoryInformation.
    Directory = 1,
    /// FileFullDirectoryInformation.
    Full = 2,
    /// FileBothDirectoryInformation.
    Both = 3,
    /// FileNamesInformation.
    Names = 12,
    /// FileIdBothDirectoryInformation.
    IdBoth = 37,
    /// FileIdFullDirectoryInformation.
    IdFull = 38,
    /// FileIdExtdDirectoryInformation.
    IdExtended = 60,
    /// FileIdExtdBothDirectoryInformation.
    IdExtendedBoth = 63,
}

impl DirectoryClass {
    /// From its number.
    pub const fn from_wire(number: u8) -> Option<DirectoryClass> {
        Some(match number {
            1 => DirectoryClass::Directory,
            2 => DirectoryClass::Full,
            3 => DirectoryClass::Both,
            12 => DirectoryClass::Names,
            37 => DirectoryClass::IdBoth,
            38 => DirectoryClass::IdFull,
            60 => DirectoryClass::IdExtended,
            63 => DirectoryClass::IdExtendedBoth,
            _ => return None,
        })
    }

    /// Bytes of an entry before its name.
    pub const fn fixed_size(self) -> usize {
        match self {
            DirectoryClass::Names => 12,
            DirectoryClass::Directory => 64,
            DirectoryClass::Full => 68,
            DirectoryClass::IdFull => 80,
            DirectoryClass::IdExtended => 88,
            DirectoryClass::Both => 94,
            DirectoryClass::IdBoth => 104,
            DirectoryClass::IdExtendedBoth => 114,
        }
    }
}

/// One entry to be listed.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// The name, one component.
    pub name: &'a [u16],
    /// The 8.3 name, at most 12 units; empty when there is none that differs.
    pub short_name: &'a [u16],
    /// Creation.
    pub created: FileTime,
    /// Last access.
    pub accessed: FileTime,
    /// Last write.
    pub modified: FileTime,
    /// Last change of data or metadata.
    pub changed: FileTime,
    /// DIRECTORY included, NORMAL left out.
    pub attributes: FileAttributes,
    /// End of file.
    pub size: u64,
    /// Bytes occupied.
    pub allocated: u64,
    /// The number that is the file's own on its volume; 0 when unknown (`..` of a share's root).
    pub file_id: u64,
    /// FileIndex; 0 where positions in a directory mean nothing.
    pub index: u32,
}

/// Packs entries of one class: aligned to 8 bytes and chained, within a fixed space.
#[derive(Debug)]
pub struct DirectoryWriter<'a> {
    writer: Writer<'a>,
    class: DirectoryClass,
    capacity: usize,
    last: Option<usize>,
}

impl<'a> DirectoryWriter<'a> {
    /// Appends to `out`, at most `capacity` bytes.
    pub fn new(class: DirectoryClass, out: &'a mut Vec<u8>, capacity: usize) -> DirectoryWriter<'a> {
        DirectoryWriter { writer: Writer::new(out), class, capacity, last: None }
    }

    /// Whether no entry was added yet.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Bytes so far.
    pub fn position(&self) -> usize {
        self.writer.position()
    }

    /// Adds an entry. False, and nothing changed, when the space does not hold it.
    #[must_use]
    pub fn push(&mut self, entry: &DirectoryEntry<'_>) -> bool {
        // Only the padding between entries counts: the last one is not padded.
        let start = self.writer.position().next_multiple_of(8);
        let length = self.class.fixed_size().saturating_add(entry.name.len().saturating_mul(2));
        if start.checked_add(length).is_none_or(|end| end > self.capacity) {
            return false;
        }
        self.writer.align(8);
        if let Some(last) = self.last {
            self.writer.patch_u32(last, u32::try_from(start - last).unwrap_or(0));
        }
        self.last = Some(start);
        emit(self.class, entry, &mut self.writer);
        true
    }
}

fn emit(class: DirectoryClass, entry: &DirectoryEntry<'_>, writer: &mut Writer<'_>) {
    use DirectoryClass::*;
    writer.u32(0);
    writer.u32(entry.index);
    if class != Names {
        for time in [entry.created, entry.accessed, entry.modified, entry.changed] {
            writer.u64(time.0);
        }
        writer.u64(entry.size);
        writer.u64(entry.allocated);
        writer.u32(entry.attributes.to_wire());
    }
    writer.u32(byte_length(entry.name));
    // EaSize: there are no extended attributes.
    if !matches!(class, Names | Directory) {
        writer.u32(0);
    }
    match class {
        Names | Directory | Full => {}
        IdFull => {
            writer.u32(0);
            writer.u64(entry.file_id);
        }
        Both => short_name(entry.short_name, writer),
        IdBoth => {
            short_name(entry.short_name, writer);
            writer.u16(0);
            writer.u64(entry.file_id);
        }
        IdExtended | IdExtendedBoth => {
            // ReparsePointTag: none.
            writer.u32(0);
            writer.u128(u128::from(entry.file_id));
            if class == IdExtendedBoth {
                short_name(entry.short_name, writer);
            }
        }
    }
    writer.utf16(entry.name);
}

/// ShortNameLength, a reserved byte, and 24 bytes.
fn short_name(name: &[u16], writer: &mut Writer<'_>) {
    let name = name.get(..name.len().min(12)).unwrap_or(&[]);
    writer.u8(u8::try_from(name.len() * 2).unwrap_or(0));
    writer.u8(0);
    writer.utf16(name);
    writer.zeros(24usize.saturating_sub(name.len() * 2));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [DirectoryClass; 8] = [
        DirectoryClass::Directory,
        DirectoryClass::Full,
        DirectoryClass::Both,
        DirectoryClass::Names,
        DirectoryClass::IdBoth,
        DirectoryClass::IdFull,
        DirectoryClass::IdExtended,
        DirectoryClass::IdExtendedBoth,
    ];

    fn entry<'a>(name: &'a [u16], short_name: &'a [u16]) -> DirectoryEntry<'a> {
        DirectoryEntry {
            name,
            short_name,
            created: FileTime(1),
            accessed: FileTime(2),
            modified: FileTime(3),
            changed: FileTime(4),
            attributes: FileAttributes::empty(),
            size: 5,
            allocated: 6,
            file_id: 7,
            index: 0,
        }
    }

    #[test]
    fn entries_have_their_sizes_and_are_chained() {
        let name = [0x61; 3];
        for class in CLASSES {
            assert_eq!(DirectoryClass::from_wire(class as u8), Some(class));
            let size = class.fixed_size() + 6;
            let stride = size.next_multiple_of(8);
            let mut out = alloc::vec![0xEE; 3];
            let mut writer = DirectoryWriter::new(class, &mut out, stride + size);
            assert!(writer.push(&entry(&name, &name)));
            assert!(writer.push(&entry(&name, &[0x62; 40])));
            assert!(!writer.push(&entry(&name, &name)));
            assert_eq!(out.len(), 3 + stride + size, "{class:?}");
            assert_eq!(out[3..7], (stride as u32).to_le_bytes());
            assert_eq!(out[3 + stride..7 + stride], [0; 4]);
            assert_eq!(out[out.len() - 6..], [0x61, 0, 0x61, 0, 0x61, 0]);
        }
    }

    #[test]
    fn nothing_fits_into_too_little() {
        let mut out = Vec::new();
        let mut writer = DirectoryWriter::new(DirectoryClass::Both, &mut out, 95);
        assert!(!writer.push(&entry(&[0x61], &[])));
        assert!(writer.is_empty());
        assert!(out.is_empty());
    }

    #[test]
    fn id_both_has_its_fields_in_place() {
        let mut out = Vec::new();
        let mut writer = DirectoryWriter::new(DirectoryClass::IdBoth, &mut out, 1000);
        assert!(writer.push(&entry(&[0x61; 2], &[0x62; 2])));
        assert_eq!(out[40], 5);
        assert_eq!(out[48], 6);
        assert_eq!(out[56..64], [0x80, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(out[68..74], [4, 0, 0x62, 0, 0x62, 0]);
        assert_eq!(out[96], 7);
        assert_eq!(out[104..], [0x61, 0, 0x61, 0]);
    }
}
