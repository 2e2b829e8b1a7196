//! File system control codes, information classes and names (MS-FSCC): structures apart from any message.

mod basics;
mod directory;
mod file_information;
mod file_system;
mod name;
mod security;
mod set_information;
mod upcase;
mod wildcard;

pub use basics::{AccessMask, FileAttributes, FileTime};
pub use directory::{DirectoryClass, DirectoryEntry, DirectoryWriter};
pub use file_information::{FileInformation, FileInformationClass, StreamEntry};
pub use file_system::{
    FileSystemAttributes, FileSystemInformation, FileSystemInformationClass, VolumeObjectId,
};
pub use name::{
    MAXIMUM_COMPONENT, NameInvalid, ParsedPath, ShortName, is_made_short_name, is_short_name,
    is_valid_component, short_name,
};
pub use security::{SecurityDescriptor, SecurityInformation, Sid};
pub use set_information::{
    BasicChange, DispositionFlags, ExtendedAttribute, ExtendedAttributes, RenameFlags, RenameRequest,
    allocation_size, disposition, disposition_extended, end_of_file, mode, position,
};
pub use upcase::{compare_names, equal_names, hash_name, upcase};
pub use wildcard::{Pattern, is_wildcard};
