//! What a volume says and is told: shaped as the SMB engine's volume trait, one to one.

use alloc::vec::Vec;

use crate::cache::CacheError;
pub use crate::time::FileTime;

/// An open file or directory. Opening one twice gives equal values. Each `open` or `create` is one use, given back by
/// `close`; when the last is, the value becomes stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A file with bytes.
    File,
    /// A directory.
    Directory,
}

/// Attribute bits (MS-FSCC 2.6), which FAT and exFAT store as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAttributes(pub u32);

impl FileAttributes {
    /// FILE_ATTRIBUTE_READONLY.
    pub const READ_ONLY: u32 = 0x01;
    /// FILE_ATTRIBUTE_HIDDEN.
    pub const HIDDEN: u32 = 0x02;
    /// FILE_ATTRIBUTE_SYSTEM.
    pub const SYSTEM: u32 = 0x04;
    /// FILE_ATTRIBUTE_DIRECTORY.
    pub const DIRECTORY: u32 = 0x10;
    /// FILE_ATTRIBUTE_ARCHIVE.
    pub const ARCHIVE: u32 = 0x20;
    /// The bits that can be changed.
    pub const SETTABLE: u32 = Self::READ_ONLY | Self::HIDDEN | Self::SYSTEM | Self::ARCHIVE;
}

/// Sizes, times and attributes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// File or directory.
    pub kind: NodeKind,
    /// As stored; DIRECTORY is set for directories, NORMAL is never.
    pub attributes: FileAttributes,
    /// End of file in bytes; 0 for directories.
    pub size: u64,
    /// Bytes that the node occupies on disk.
    pub allocated: u64,
    /// Creation.
    pub created: FileTime,
    /// Last access.
    pub accessed: FileTime,
    /// Last write.
    pub modified: FileTime,
    /// A number that stays the node's own while the volume is mounted.
    pub file_id: u64,
}

/// What to change of a node; `None` leaves as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetadataChange {
    /// READONLY, HIDDEN, SYSTEM, ARCHIVE; other bits are ignored.
    pub attributes: Option<FileAttributes>,
    /// Creation.
    pub created: Option<FileTime>,
    /// Last access.
    pub accessed: Option<FileTime>,
    /// Last write.
    pub modified: Option<FileTime>,
}

/// One directory entry while it is visited.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its name, one component.
    pub name: &'a [u16],
    /// Its 8.3 name, when the volume stores one that differs.
    pub short_name: Option<&'a [u16]>,
    /// Its metadata.
    pub metadata: Metadata,
    /// Where to go on after it.
    pub cursor: u64,
}

/// A volume's space in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All clusters.
    pub total: u64,
    /// Free clusters.
    pub free: u64,
    /// Bytes a cluster.
    pub cluster: u32,
    /// Bytes a sector.
    pub sector: u32,
}

/// A volume's label and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeInformation {
    /// The label, UTF-16.
    pub label: Vec<u16>,
    /// The serial number.
    pub serial: u32,
    /// "exFAT", "FAT32", "FAT16" or "FAT12".
    pub file_system: &'static str,
    /// Code units a component may have.
    pub maximum_component: u32,
    /// When it was formatted, if known; the formats have no field for it, so this is 0.
    pub created: FileTime,
    /// Nothing can be changed.
    pub read_only: bool,
}

/// Why a volume would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeError {
    /// The last component is not there.
    NotFound,
    /// A component before the last is not there, or is not a directory.
    PathNotFound,
    /// The name is taken.
    Exists,
    /// A file operation on a directory.
    IsADirectory,
    /// A directory operation on a file.
    NotADirectory,
    /// The directory has entries.
    NotEmpty,
    /// No free cluster or directory slot.
    Full,
    /// The file would grow beyond what the format can hold.
    TooLarge,
    /// The name cannot be stored on this kind of volume, or the directory would move into itself.
    NameInvalid,
    /// The volume, or the file, takes no changes.
    ReadOnly,
    /// The target of a replacing rename is open.
    InUse,
    /// The disk answered with an error.
    Io,
    /// The structure on disk contradicts itself.
    Corrupt,
    /// A fixed table (open nodes, cache pages) is full.
    NoResources,
    /// The node is not open (any more).
    Stale,
}

impl From<CacheError> for VolumeError {
    fn from(error: CacheError) -> Self {
        match error {
            CacheError::Device(_) => Self::Io,
            CacheError::NoResources => Self::NoResources,
            // Addresses come from the structure on disk, checked against the volume's size at mount.
            CacheError::OutOfRange => Self::Corrupt,
        }
    }
}

impl core::fmt::Display for VolumeError {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Io => formatter.write_str("the disk answers with errors"),
            Self::Corrupt => formatter.write_str("the file system contradicts itself"),
            Self::NoResources => formatter.write_str("there is no memory for it"),
            // Answers to clients, which nobody reads as words.
            other => core::fmt::Debug::fmt(other, formatter),
        }
    }
}

impl core::error::Error for VolumeError {}
