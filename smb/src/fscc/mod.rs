//! File system control codes, information classes and names (MS-FSCC): structures apart from any message.

mod basics;
mod directory;
mod file_information;
mod file_system;
mod set_information;

pub use basics::{AccessMask, FileAttributes, FileTime};
pub use directory::{DirectoryClass, DirectoryEntry, DirectoryWriter};
pub use file_information::{FileInformation, FileInformationClass, StreamEntry};
pub use file_system::{
    FileSystemAttributes, FileSystemInformation, FileSystemInformationClass, VolumeObjectId,
};
pub use set_information::{
    BasicChange, DispositionFlags, ExtendedAttribute, ExtendedAttributes, RenameFlags, RenameRequest,
    allocation_size, disposition, disposition_extended, end_of_file, mode, position,
};
