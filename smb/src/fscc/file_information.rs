//! What a query of an open file answers (MS-FSCC 2.4).

use crate::fscc::{AccessMask, FileAttributes, FileTime};
use crate::reader::Writer;

/// The classes of information about one file, by their MS-FSCC 2.4 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are MS-FSCC's, each a section there")]
pub enum FileInformationClass {
    Basic = 4,
    Standard = 5,
    Internal = 6,
    ExtendedAttributeSize = 7,
    Access = 8,
    Name = 9,
    Rename = 10,
    Link = 11,
    Disposition = 13,
    Position = 14,
    FullExtendedAttributes = 15,
    Mode = 16,
    Alignment = 17,
    All = 18,
    Allocation = 19,
    EndOfFile = 20,
    AlternateName = 21,
    Stream = 22,
    Pipe = 23,
    PipeLocal = 24,
    PipeRemote = 25,
    Compression = 28,
    ObjectId = 29,
    Quota = 32,
    ReparsePoint = 33,
    NetworkOpen = 34,
    AttributeTag = 35,
    ValidDataLength = 39,
    ShortName = 40,
    NormalizedName = 48,
    StandardLink = 54,
    Id = 59,
    DispositionExtended = 64,
    RenameExtended = 65,
}

impl FileInformationClass {
    /// From its number; None for those that no file server is asked for.
    pub const fn from_wire(number: u8) -> Option<FileInformationClass> {
        use FileInformationClass::*;
        Some(match number {
            4 => Basic,
            5 => Standard,
            6 => Internal,
            7 => ExtendedAttributeSize,
            8 => Access,
            9 => Name,
            10 => Rename,
            11 => Link,
            13 => Disposition,
            14 => Position,
            15 => FullExtendedAttributes,
            16 => Mode,
            17 => Alignment,
            18 => All,
            19 => Allocation,
            20 => EndOfFile,
            21 => AlternateName,
            22 => Stream,
            23 => Pipe,
            24 => PipeLocal,
            25 => PipeRemote,
            28 => Compression,
            29 => ObjectId,
            32 => Quota,
            33 => ReparsePoint,
            34 => NetworkOpen,
            35 => AttributeTag,
            39 => ValidDataLength,
            40 => ShortName,
            48 => NormalizedName,
            54 => StandardLink,
            59 => Id,
            64 => DispositionExtended,
            65 => RenameExtended,
            _ => return None,
        })
    }

    /// The shortest output buffer a query may offer, INFO_LENGTH_MISMATCH below it; a longer one that still does not hold
    /// everything gets as much as fits with BUFFER_OVERFLOW. None when the class cannot be queried.
    ///
    /// These are the sizes of Windows' structures, padding at their ends included.
    pub const fn minimum_output(self) -> Option<u32> {
        use FileInformationClass::*;
        Some(match self {
            Basic => 40,
            Standard => 24,
            Internal => 8,
            ExtendedAttributeSize => 4,
            Access => 4,
            Name | AlternateName | NormalizedName => 8,
            Position => 8,
            FullExtendedAttributes => 0,
            Mode => 4,
            Alignment => 4,
            All => 104,
            Stream => 32,
            Pipe => 8,
            PipeLocal => 40,
            PipeRemote => 16,
            Compression => 16,
            NetworkOpen => 56,
            AttributeTag => 8,
            StandardLink => 16,
            Id => 24,
            Rename | Link | Disposition | Allocation | EndOfFile | ObjectId | Quota | ReparsePoint
            | ValidDataLength | ShortName | DispositionExtended | RenameExtended => return None,
        })
    }
}

/// A stream of a file, as FileStreamInformation lists it.
#[derive(Clone, Copy, Debug)]
pub struct StreamEntry<'a> {
    /// `::$DATA`, or `:name:$DATA`; UTF-16.
    pub name: &'a [u16],
    /// Bytes in it.
    pub size: u64,
    /// Bytes it occupies.
    pub allocated: u64,
}

/// All that can be said about an open file; a query picks from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileInformation<'a> {
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
    /// Names it has; 0 once it is to be deleted.
    pub links: u32,
    /// Deleted with its last close.
    pub delete_pending: bool,
    /// The number that is the file's own on its volume.
    pub file_id: u64,
    /// The volume's number.
    pub volume_serial: u64,
    /// What the open was granted.
    pub access: AccessMask,
    /// The open's current byte offset.
    pub position: u64,
    /// The open's mode (FILE_WRITE_THROUGH, ...).
    pub mode: u32,
    /// The path from the share's root, with a leading `\`; UTF-16.
    pub name: &'a [u16],
    /// The 8.3 name of the last component; empty when there is none.
    pub short_name: &'a [u16],
    /// The streams; empty for a directory.
    pub streams: &'a [StreamEntry<'a>],
}

impl FileInformation<'_> {
    /// Appends `class` in full. False, and nothing appended, when the class is not answered from here (pipes, extended
    /// attributes, those that can only be set).
    pub fn emit(&self, class: FileInformationClass, writer: &mut Writer<'_>) -> bool {
        use FileInformationClass::*;
        match class {
            Basic => self.basic(writer),
            Standard => self.standard(writer),
            Internal => writer.u64(self.file_id),
            // No extended attributes.
            ExtendedAttributeSize => writer.u32(0),
            Access => writer.u32(self.access.bits()),
            Name => named(writer, self.name),
            NormalizedName => {
                // Without the leading separator (MS-SMB2 3.3.5.20.1).
                named(writer, self.name.strip_prefix(&[u16::from(b'\\')]).unwrap_or(self.name));
            }
            Position => writer.u64(self.position),
            Mode => writer.u32(self.mode),
            // FILE_BYTE_ALIGNMENT.
            Alignment => writer.u32(0),
            All => {
                self.basic(writer);
                self.standard(writer);
                writer.u64(self.file_id);
                writer.u32(0);
                writer.u32(self.access.bits());
                writer.u64(self.position);
                writer.u32(self.mode);
                writer.u32(0);
                named(writer, self.name);
            }
            AlternateName => named(writer, self.short_name),
            Stream => self.streams(writer),
            Compression => {
                writer.u64(self.size);
                // COMPRESSION_FORMAT_NONE, and no shifts.
                writer.zeros(8);
            }
            NetworkOpen => {
                self.times(writer);
                writer.u64(self.allocated);
                writer.u64(self.size);
                writer.u32(self.attributes.to_wire());
                writer.u32(0);
            }
            AttributeTag => {
                writer.u32(self.attributes.to_wire());
                writer.u32(0);
            }
            StandardLink => {
                writer.u32(self.links);
                writer.u32(self.links);
                writer.u8(u8::from(self.delete_pending));
                writer.u8(u8::from(self.attributes.contains(FileAttributes::DIRECTORY)));
                writer.u16(0);
                writer.u32(0);
            }
            Id => {
                writer.u64(self.volume_serial);
                writer.u128(u128::from(self.file_id));
            }
            _ => return false,
        }
        true
    }

    fn times(&self, writer: &mut Writer<'_>) {
        for time in [self.created, self.accessed, self.modified, self.changed] {
            writer.u64(time.0);
        }
    }

    fn basic(&self, writer: &mut Writer<'_>) {
        self.times(writer);
        writer.u32(self.attributes.to_wire());
        writer.u32(0);
    }

    fn standard(&self, writer: &mut Writer<'_>) {
        writer.u64(self.allocated);
        writer.u64(self.size);
        writer.u32(self.links);
        writer.u8(u8::from(self.delete_pending));
        writer.u8(u8::from(self.attributes.contains(FileAttributes::DIRECTORY)));
        writer.u16(0);
    }

    fn streams(&self, writer: &mut Writer<'_>) {
        let mut previous = None;
        for stream in self.streams {
            // Entries are aligned, and each says where the next one starts.
            if let Some(start) = previous {
                writer.align(8);
                let distance = writer.position().saturating_sub(start);
                writer.patch_u32(start, u32::try_from(distance).unwrap_or(0));
            }
            previous = Some(writer.position());
            writer.u32(0);
            writer.u32(byte_length(stream.name));
            writer.u64(stream.size);
            writer.u64(stream.allocated);
            writer.utf16(stream.name);
        }
    }
}

/// A name's length in bytes as the wire wants it; names are never near the limit.
pub(super) fn byte_length(name: &[u16]) -> u32 {
    u32::try_from(name.len().saturating_mul(2)).unwrap_or(u32::MAX)
}

/// A length in bytes and the name.
fn named(writer: &mut Writer<'_>, name: &[u16]) {
    writer.u32(byte_length(name));
    writer.utf16(name);
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    fn emit(information: &FileInformation<'_>, class: FileInformationClass) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(information.emit(class, &mut Writer::new(&mut out)));
        out
    }

    #[test]
    fn fixed_classes_have_their_sizes() {
        use FileInformationClass::*;
        let information = FileInformation::default();
        for (class, size) in [
            (Basic, 40),
            (Standard, 24),
            (Internal, 8),
            (ExtendedAttributeSize, 4),
            (Access, 4),
            (Position, 8),
            (Mode, 4),
            (Alignment, 4),
            (Compression, 16),
            (NetworkOpen, 56),
            (AttributeTag, 8),
            (StandardLink, 16),
            (Id, 24),
            (All, 100),
            (Name, 4),
        ] {
            assert_eq!(emit(&information, class).len(), size, "{class:?}");
        }
    }

    #[test]
    fn numbers_convert_both_ways() {
        for number in 0..=255 {
            if let Some(class) = FileInformationClass::from_wire(number) {
                assert_eq!(class as u8, number);
            }
        }
    }

    #[test]
    fn all_holds_the_others() {
        let name = utf16("\\a\\b.txt");
        let information = FileInformation {
            created: FileTime(1),
            changed: FileTime(4),
            attributes: FileAttributes::ARCHIVE,
            size: 5,
            allocated: 4096,
            links: 1,
            file_id: 77,
            access: AccessMask::ALL,
            name: &name,
            ..FileInformation::default()
        };
        let all = emit(&information, FileInformationClass::All);
        assert_eq!(all[..40], emit(&information, FileInformationClass::Basic));
        assert_eq!(all[40..64], emit(&information, FileInformationClass::Standard));
        assert_eq!(all[64], 77);
        assert_eq!(all[76..80], [0xFF, 0x01, 0x1F, 0x00]);
        assert_eq!(all[96..100], [16, 0, 0, 0]);
        assert_eq!(all.len(), 116);
        let normalized = emit(&information, FileInformationClass::NormalizedName);
        assert_eq!(normalized[..6], [14, 0, 0, 0, b'a', 0]);
    }

    #[test]
    fn streams_are_chained() {
        let (first, second) = (utf16("::$DATA"), utf16(":x:$DATA"));
        let streams = [
            StreamEntry { name: &first, size: 1, allocated: 2 },
            StreamEntry { name: &second, size: 3, allocated: 4 },
        ];
        let information = FileInformation { streams: &streams, ..FileInformation::default() };
        let out = emit(&information, FileInformationClass::Stream);
        assert_eq!(out[..8], [40, 0, 0, 0, 14, 0, 0, 0]);
        assert_eq!(out[40..48], [0, 0, 0, 0, 16, 0, 0, 0]);
        assert_eq!(out.len(), 40 + 24 + 16);
        assert!(emit(&FileInformation::default(), FileInformationClass::Stream).is_empty());
    }
}
