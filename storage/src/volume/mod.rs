//! Mounted volumes.

mod types;

pub use types::{
    Entry, FileAttributes, FileTime, Metadata, MetadataChange, Node, NodeKind, Space, VolumeError,
    VolumeInformation,
};
