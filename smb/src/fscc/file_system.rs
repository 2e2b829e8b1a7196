//! What a query of a volume answers (MS-FSCC 2.5).

use bitflags::bitflags;

use super::file_information::byte_length;
use crate::fscc::FileTime;
use crate::reader::Writer;

/// The classes of information about a volume, by their MS-FSCC 2.5 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are MS-FSCC's, each a section there")]
pub enum FileSystemInformationClass {
    Volume = 1,
    Size = 3,
    Device = 4,
    Attribute = 5,
    Control = 6,
    FullSize = 7,
    ObjectId = 8,
    SectorSize = 11,
}

impl FileSystemInformationClass {
    /// From its number.
    pub const fn from_wire(number: u8) -> Option<FileSystemInformationClass> {
        use FileSystemInformationClass::*;
        Some(match number {
            1 => Volume,
            3 => Size,
            4 => Device,
            5 => Attribute,
            6 => Control,
            7 => FullSize,
            8 => ObjectId,
            11 => SectorSize,
            _ => return None,
        })
    }

    /// The shortest output buffer a query may offer, INFO_LENGTH_MISMATCH below it; a longer one that still does not hold
    /// everything gets as much as fits with BUFFER_OVERFLOW. Padding at the structures' ends is included.
    pub const fn minimum_output(self) -> u32 {
        use FileSystemInformationClass::*;
        match self {
            Volume | Size => 24,
            Device => 8,
            Attribute => 16,
            Control => 48,
            FullSize => 32,
            ObjectId => 64,
            SectorSize => 28,
        }
    }
}

bitflags! {
    /// What a file system can do (MS-FSCC 2.5.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FileSystemAttributes: u32 {
        /// Names that differ in case only are different names.
        const CASE_SENSITIVE_SEARCH = 0x0000_0001;
        /// Keeps the case of names.
        const CASE_PRESERVED_NAMES = 0x0000_0002;
        /// Stores names in Unicode.
        const UNICODE_ON_DISK = 0x0000_0004;
        /// Stores and enforces access control lists.
        const PERSISTENT_ACLS = 0x0000_0008;
        /// Compresses files.
        const FILE_COMPRESSION = 0x0000_0010;
        /// Has quotas.
        const VOLUME_QUOTAS = 0x0000_0020;
        /// Has sparse files.
        const SUPPORTS_SPARSE_FILES = 0x0000_0040;
        /// Has reparse points.
        const SUPPORTS_REPARSE_POINTS = 0x0000_0080;
        /// Has object identifiers.
        const SUPPORTS_OBJECT_IDS = 0x0001_0000;
        /// Has named streams.
        const NAMED_STREAMS = 0x0004_0000;
        /// Takes no changes.
        const READ_ONLY_VOLUME = 0x0008_0000;
        /// Opens files by their identifiers.
        const SUPPORTS_OPEN_BY_FILE_ID = 0x0100_0000;
    }
}

/// A volume's object identifier with its extended information, all zeros where nothing is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeObjectId(pub [u8; 16]);

/// All that can be said about a volume; a query picks from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystemInformation<'a> {
    /// When it was formatted.
    pub created: FileTime,
    /// The serial number.
    pub serial: u32,
    /// The label, UTF-16.
    pub label: &'a [u16],
    /// All clusters.
    pub total_clusters: u64,
    /// Free clusters.
    pub free_clusters: u64,
    /// Sectors a cluster.
    pub sectors_per_cluster: u32,
    /// Bytes a sector.
    pub bytes_per_sector: u32,
    /// What it can do.
    pub attributes: FileSystemAttributes,
    /// Code units a component may have.
    pub maximum_component: u32,
    /// "NTFS", "FAT32", "exFAT".
    pub file_system: &'a str,
    /// The object identifier.
    pub object_id: VolumeObjectId,
}

/// FILE_DEVICE_DISK.
const DEVICE_DISK: u32 = 7;
/// FILE_DEVICE_IS_MOUNTED.
const DEVICE_IS_MOUNTED: u32 = 0x20;
/// FILE_READ_ONLY_DEVICE.
const READ_ONLY_DEVICE: u32 = 2;
/// SSINFO_FLAGS_ALIGNED_DEVICE | SSINFO_FLAGS_PARTITION_ALIGNED_ON_DEVICE.
const SECTORS_ALIGNED: u32 = 3;

impl FileSystemInformation<'_> {
    /// Appends `class` in full.
    pub fn emit(&self, class: FileSystemInformationClass, writer: &mut Writer<'_>) {
        use FileSystemInformationClass::*;
        match class {
            Volume => {
                writer.u64(self.created.0);
                writer.u32(self.serial);
                writer.u32(byte_length(self.label));
                // SupportsObjects, Reserved.
                writer.u16(0);
                writer.utf16(self.label);
            }
            Size => {
                writer.u64(self.total_clusters);
                writer.u64(self.free_clusters);
                writer.u32(self.sectors_per_cluster);
                writer.u32(self.bytes_per_sector);
            }
            Device => {
                let read_only = self.attributes.contains(FileSystemAttributes::READ_ONLY_VOLUME);
                writer.u32(DEVICE_DISK);
                writer.u32(DEVICE_IS_MOUNTED | if read_only { READ_ONLY_DEVICE } else { 0 });
            }
            Attribute => {
                writer.u32(self.attributes.bits());
                writer.u32(self.maximum_component);
                let length = self.file_system.encode_utf16().count().saturating_mul(2);
                writer.u32(u32::try_from(length).unwrap_or(0));
                writer.utf16_text(self.file_system);
            }
            Control => {
                // No content indexing, no default quota, no quota flags.
                writer.zeros(24);
                writer.u64(u64::MAX);
                writer.u64(u64::MAX);
                writer.zeros(8);
            }
            FullSize => {
                writer.u64(self.total_clusters);
                writer.u64(self.free_clusters);
                writer.u64(self.free_clusters);
                writer.u32(self.sectors_per_cluster);
                writer.u32(self.bytes_per_sector);
            }
            ObjectId => {
                writer.bytes(&self.object_id.0);
                writer.zeros(48);
            }
            SectorSize => {
                for _ in 0..4 {
                    writer.u32(self.bytes_per_sector);
                }
                writer.u32(SECTORS_ALIGNED);
                writer.zeros(8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn classes_have_their_sizes() {
        use FileSystemInformationClass::*;
        let label: Vec<u16> = "data".encode_utf16().collect();
        let information = FileSystemInformation {
            label: &label,
            file_system: "NTFS",
            bytes_per_sector: 512,
            ..FileSystemInformation::default()
        };
        for (class, size) in [
            (Volume, 18 + 8),
            (Size, 24),
            (Device, 8),
            (Attribute, 12 + 8),
            (Control, 48),
            (FullSize, 32),
            (ObjectId, 64),
            (SectorSize, 28),
        ] {
            assert_eq!(FileSystemInformationClass::from_wire(class as u8), Some(class));
            let mut out = Vec::new();
            information.emit(class, &mut Writer::new(&mut out));
            assert_eq!(out.len(), size, "{class:?}");
            assert!(out.len() >= class.minimum_output() as usize);
        }
    }
}
