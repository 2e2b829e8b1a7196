//! What a client sets of an open file (MS-FSCC 2.4).

use alloc::vec::Vec;

use bitflags::bitflags;

use crate::fscc::FileAttributes;
use crate::reader::{Malformed, Reader};

/// FileBasicInformation as a client sets it (MS-FSCC 2.4.7). What the special values 0, -1 and -2 of the times mean is
/// the engine's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicChange {
    /// Creation, as it stands on the wire.
    pub created: i64,
    /// Last access.
    pub accessed: i64,
    /// Last write.
    pub modified: i64,
    /// Last change.
    pub changed: i64,
    /// The new attributes; None for 0, which leaves them. FILE_ATTRIBUTE_NORMAL becomes the empty set.
    pub attributes: Option<FileAttributes>,
}

impl BasicChange {
    /// Reads 36 bytes or more: the reserved end may be missing.
    pub fn parse(bytes: &[u8]) -> Result<BasicChange, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut time = || reader.u64().map(u64::cast_signed);
        let [created, accessed, modified, changed] = [time()?, time()?, time()?, time()?];
        let attributes = match reader.u32()? {
            0 => None,
            bits => Some(FileAttributes::from_wire(bits)),
        };
        Ok(BasicChange { created, accessed, modified, changed, attributes })
    }
}

bitflags! {
    /// How to rename or link (MS-FSCC 2.4.43).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// A file in the way is replaced.
        const REPLACE_IF_EXISTS = 0x0000_0001;
        /// Even while it is open.
        const POSIX_SEMANTICS = 0x0000_0002;
        /// Does not matter to a server without pinning.
        const SUPPRESS_PIN_STATE_INHERITANCE = 0x0000_0004;
        /// Does not matter to a server without tiers.
        const SUPPRESS_STORAGE_RESERVE_INHERITANCE = 0x0000_0008;
        /// A read-only file in the way is replaced, too.
        const IGNORE_READONLY_ATTRIBUTE = 0x0000_0040;
    }
}

/// FileRenameInformation, FileRenameInformationEx and FileLinkInformation (MS-FSCC 2.4.42, 2.4.43, 2.4.27).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenameRequest {
    /// How.
    pub flags: RenameFlags,
    /// Must be 0 over the network.
    pub root_directory: u64,
    /// The new path from the share's root; UTF-16, as it came.
    pub name: Vec<u16>,
}

impl RenameRequest {
    /// Reads the SMB 2 form; `extended` for FileRenameInformationEx, whose first field is flags and not a boolean.
    pub fn parse(bytes: &[u8], extended: bool) -> Result<RenameRequest, Malformed> {
        let mut reader = Reader::new(bytes);
        let flags = if extended {
            let flags = RenameFlags::from_bits_retain(reader.u32()?);
            reader.skip(4)?;
            flags
        } else {
            let replace = reader.u8()? != 0;
            reader.skip(7)?;
            if replace { RenameFlags::REPLACE_IF_EXISTS } else { RenameFlags::empty() }
        };
        let root_directory = reader.u64()?;
        let length = reader.u32()?;
        let name = reader.utf16(length)?;
        Ok(RenameRequest { flags, root_directory, name })
    }
}

bitflags! {
    /// FileDispositionInformationEx (MS-FSCC 2.4.11.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DispositionFlags: u32 {
        /// To be deleted; without it, not to be deleted any more.
        const DELETE = 0x0000_0001;
        /// The name goes with this handle, others go on.
        const POSIX_SEMANTICS = 0x0000_0002;
        /// Look for image sections first.
        const FORCE_IMAGE_SECTION_CHECK = 0x0000_0004;
        /// Changes the on-close flag of this handle.
        const ON_CLOSE = 0x0000_0008;
        /// Also when read-only.
        const IGNORE_READONLY_ATTRIBUTE = 0x0000_0010;
    }
}

/// FileDispositionInformation: whether it is to be deleted.
pub fn disposition(bytes: &[u8]) -> Result<bool, Malformed> {
    Reader::new(bytes).u8().map(|delete| delete != 0)
}

/// FileDispositionInformationEx.
pub fn disposition_extended(bytes: &[u8]) -> Result<DispositionFlags, Malformed> {
    Reader::new(bytes).u32().map(DispositionFlags::from_bits_retain)
}

/// FileAllocationInformation in bytes; a negative one is malformed.
pub fn allocation_size(bytes: &[u8]) -> Result<u64, Malformed> {
    non_negative(bytes)
}

/// FileEndOfFileInformation in bytes; a negative one is malformed.
pub fn end_of_file(bytes: &[u8]) -> Result<u64, Malformed> {
    non_negative(bytes)
}

/// FilePositionInformation in bytes; a negative one is malformed.
pub fn position(bytes: &[u8]) -> Result<u64, Malformed> {
    non_negative(bytes)
}

/// FileModeInformation: FILE_WRITE_THROUGH and its kind.
pub fn mode(bytes: &[u8]) -> Result<u32, Malformed> {
    Reader::new(bytes).u32()
}

fn non_negative(bytes: &[u8]) -> Result<u64, Malformed> {
    let value = Reader::new(bytes).u64()?;
    if value > i64::MAX.cast_unsigned() { Err(Malformed) } else { Ok(value) }
}

/// One entry of FileFullEaInformation (MS-FSCC 2.4.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedAttribute<'a> {
    /// FILE_NEED_EA is 0x80.
    pub flags: u8,
    /// The name, without its terminator.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// Walks a list of extended attributes. Each step moves on by at least an entry's size, so no list loops.
#[derive(Clone, Debug)]
pub struct ExtendedAttributes<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> ExtendedAttributes<'a> {
    /// Over a list as it stands on the wire; an empty one has no entries.
    pub const fn new(bytes: &'a [u8]) -> ExtendedAttributes<'a> {
        ExtendedAttributes { rest: if bytes.is_empty() { None } else { Some(bytes) } }
    }

    fn parse(&mut self, bytes: &'a [u8]) -> Result<ExtendedAttribute<'a>, Malformed> {
        let mut reader = Reader::new(bytes);
        let next = reader.u32()?;
        let flags = reader.u8()?;
        let name_length = reader.u8()?;
        let value_length = reader.u16()?;
        let name = reader.bytes(name_length)?;
        if reader.u8()? != 0 {
            return Err(Malformed);
        }
        let value = reader.bytes(value_length)?;
        if next != 0 {
            let next = usize::try_from(next).map_err(|_| Malformed)?;
            if next % 4 != 0 || next < reader.position() {
                return Err(Malformed);
            }
            self.rest = Some(bytes.get(next..).ok_or(Malformed)?);
        }
        Ok(ExtendedAttribute { flags, name, value })
    }
}

impl<'a> Iterator for ExtendedAttributes<'a> {
    type Item = Result<ExtendedAttribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.rest.take()?;
        Some(self.parse(bytes))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn basic_change_reads_times_and_attributes() {
        let mut bytes = vec![0xFF; 16];
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0; 8]);
        bytes.extend([0x80, 0, 0, 0]);
        let change = BasicChange::parse(&bytes).unwrap();
        assert_eq!((change.created, change.accessed, change.modified, change.changed), (-1, -1, 1, 0));
        assert_eq!(change.attributes, Some(FileAttributes::empty()));
        assert_eq!(BasicChange::parse(&bytes[..35]), Err(Malformed));
    }

    #[test]
    fn rename_takes_the_name_it_is_told_and_no_more() {
        let mut bytes = vec![1, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
        bytes.extend([b'a', 0, b'b', 0, b'c', 0]);
        let request = RenameRequest::parse(&bytes, false).unwrap();
        assert_eq!(request.flags, RenameFlags::REPLACE_IF_EXISTS);
        assert_eq!(request.name, [0x61, 0x62]);
        bytes[16] = 5;
        assert_eq!(RenameRequest::parse(&bytes, false), Err(Malformed));
        bytes[16] = 8;
        assert_eq!(RenameRequest::parse(&bytes, false), Err(Malformed));
        bytes[19] = 0xFF;
        assert_eq!(RenameRequest::parse(&bytes, true), Err(Malformed));
    }

    #[test]
    fn sizes_are_not_negative() {
        assert_eq!(end_of_file(&[5, 0, 0, 0, 0, 0, 0, 0]), Ok(5));
        assert_eq!(end_of_file(&[0xFF; 8]), Err(Malformed));
        assert_eq!(allocation_size(&[0; 7]), Err(Malformed));
    }

    #[test]
    fn extended_attributes_end() {
        let one = [0, 0, 0, 0, 0, 1, 2, 0, b'n', 0, 7, 8];
        let mut list = one.to_vec();
        list[0] = 12;
        list.extend(one);
        let found: Vec<_> = ExtendedAttributes::new(&list).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], Ok(ExtendedAttribute { flags: 0, name: b"n", value: &[7, 8] }));
        // Backwards, misaligned, beyond the end, and onto itself.
        for next in [4, 13, 200, 8] {
            list[0] = next;
            assert_eq!(ExtendedAttributes::new(&list).collect::<Vec<_>>(), [Err(Malformed)]);
        }
        assert_eq!(ExtendedAttributes::new(&[]).count(), 0);
        assert_eq!(ExtendedAttributes::new(&[0]).collect::<Vec<_>>(), [Err(Malformed)]);
    }
}
