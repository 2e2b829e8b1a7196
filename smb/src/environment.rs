//! What the engine needs from outside: small traits that an embedder implements.
//!
//! Everything here may block the calling thread (a worker): the engine holds no lock and no borrow across a call.
//! After each call, ids are looked up again, because anything may have been closed meanwhile.

use alloc::vec::Vec;

use crate::fscc::{FileAttributes, FileTime};
use crate::status::NtStatus;

/// All that a server instance needs from the world around it.
pub trait Environment {
    /// The kind of volume that shares are made of (an enum of several kinds is fine).
    type Volume: Volume;

    /// The wall clock, for answers and time stamps.
    fn now(&self) -> FileTime;

    /// Milliseconds since some fixed moment, never going back: time-outs and credits use this one.
    fn monotonic_milliseconds(&self) -> u64;

    /// Fills `bytes` from a cryptographically strong generator: session ids, salts, challenges.
    fn random(&self, bytes: &mut [u8]);

    /// A reply waits in `connection`'s queue: fetch it with `Server::next_reply` soon.
    fn reply_ready(&self, connection: crate::ConnectionId);

    /// The first token a server may offer in NEGOTIATE (a SPNEGO `NegTokenInit2`), appended to `out`.
    fn authentication_offer(&self, out: &mut Vec<u8>);

    /// One leg of the log-on `exchange`: `token` came from the client, the answer token is appended to `out`.
    /// `exchange` names the session being set up; the first leg of a new `exchange` starts afresh.
    fn authenticate(&self, exchange: ExchangeId, token: &[u8], out: &mut Vec<u8>) -> Authentication;

    /// The exchange will not be continued (connection gone, session expired): forget its state.
    fn abandon_authentication(&self, exchange: ExchangeId);

    /// Calls `visit` with each account that clients may learn of: they turn names into security identifiers and back.
    fn visit_accounts(&self, visit: &mut dyn FnMut(Account<'_>));
}

/// An account as clients may learn of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    /// Its number, from which its security identifier is made.
    pub user: UserId,
    /// Its name.
    pub name: &'a str,
    /// May not log on.
    pub disabled: bool,
}

/// Names one log-on in progress. Unique among those in progress: a generation-checked arena id in raw form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExchangeId(pub u32);

/// What a leg of a log-on came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// One more leg is needed: STATUS_MORE_PROCESSING_REQUIRED.
    Continue,
    /// The client is who it says.
    Accepted(Identity),
    /// It is not, or the token is malformed; the status goes to the client (usually STATUS_LOGON_FAILURE).
    Denied(NtStatus),
}

/// Who a session belongs to, and its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The account, as shares' access lists name it.
    pub user: UserId,
    /// Nobody in particular: IPC$ only, no signing key.
    pub anonymous: bool,
    /// May change the appliance.
    pub administrator: bool,
    /// The session key that signing and encryption keys derive from (MS-SMB2 3.2.5.3.3).
    pub session_key: [u8; 16],
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The key stays out of logs.
        formatter
            .debug_struct("Identity")
            .field("user", &self.user)
            .field("anonymous", &self.anonymous)
            .finish()
    }
}

/// An account's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserId(pub u16);

/// A tree of files that a share shows.
///
/// Paths are UTF-16 code units in the machine's byte order, components parted by `\`, without a leading or trailing
/// separator; the empty path is the root. Matching ignores case by the volume's up-case table and preserves it.
/// The engine has refused wildcards, `.`/`..` and stream names before.
pub trait Volume {
    /// An open node (file or directory). Opening one file twice gives equal values: it is the file's identity while
    /// open. Holds one use for each `open` or `create`, given back by `close`.
    type Node: Copy + PartialEq + core::fmt::Debug;

    /// The bytes of one read: pinned cache pages, or a buffer.
    type Payload: Payload;

    /// Finds `path`. NotFound when the last component is missing, PathNotFound when one before it is.
    fn open(&self, path: &[u16]) -> Result<Self::Node, VolumeError>;

    /// Makes a new file or directory at `path`, which must not exist (Exists).
    fn create(
        &self,
        path: &[u16],
        kind: NodeKind,
        attributes: FileAttributes,
    ) -> Result<Self::Node, VolumeError>;

    /// Gives one use back. The data of a file that was removed meanwhile is freed with its last use.
    fn close(&self, node: Self::Node) -> Result<(), VolumeError>;

    /// Sizes, times and attributes.
    fn metadata(&self, node: Self::Node) -> Result<Metadata, VolumeError>;

    /// Sets what is `Some` in `change`.
    fn change_metadata(&self, node: Self::Node, change: &MetadataChange) -> Result<(), VolumeError>;

    /// The node's path as stored (case as created), appended to `path`.
    fn path(&self, node: Self::Node, path: &mut Vec<u16>) -> Result<(), VolumeError>;

    /// The 8.3 name that the volume stores beside the node's name, appended to `name`: nothing where it stores none.
    fn short_name(&self, node: Self::Node, name: &mut Vec<u16>) -> Result<(), VolumeError> {
        let _ = (node, name);
        Ok(())
    }

    /// Up to `length` bytes at `offset`; shorter only at the end of the file, empty beyond it.
    fn read(&self, node: Self::Node, offset: u64, length: u32) -> Result<Self::Payload, VolumeError>;

    /// Writes all of `data` at `offset`, growing the file as needed; a gap reads as zeros.
    fn write(&self, node: Self::Node, offset: u64, data: &[u8]) -> Result<(), VolumeError>;

    /// Sets the end of the file, cutting or growing with zeros.
    fn set_size(&self, node: Self::Node, size: u64) -> Result<(), VolumeError>;

    /// Moves `node` to `path`. When something is there: Exists, unless `replace` and it is a file nobody has open.
    fn rename(&self, node: Self::Node, path: &[u16], replace: bool) -> Result<(), VolumeError>;

    /// Takes the name away at once; the data goes with the last use. A directory must be empty (NotEmpty).
    fn remove(&self, node: Self::Node) -> Result<(), VolumeError>;

    /// Visits a directory's entries from `cursor` on (0 is the start; `.` and `..` are not among them) until `visit`
    /// returns false. An entry's own cursor says where to go on after it; cursors stay valid while the directory
    /// is open, across creation and removal of other entries.
    fn list(
        &self,
        directory: Self::Node,
        cursor: u64,
        visit: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), VolumeError>;

    /// When it returns, all that was written to `node` and its name survive a power cut.
    fn flush(&self, node: Self::Node) -> Result<(), VolumeError>;

    /// Total and free space.
    fn space(&self) -> Result<Space, VolumeError>;

    /// Label, serial number, kind.
    fn information(&self) -> VolumeInformation;
}

/// The bytes of a read, in pieces. Piecewise, so that cache pages can be referred to instead of copied.
pub trait Payload {
    /// How many bytes in all.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` with each piece in order.
    fn for_each(&self, visit: &mut dyn FnMut(&[u8]));
}

impl Payload for Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn for_each(&self, visit: &mut dyn FnMut(&[u8])) {
        visit(self);
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A file with bytes.
    File,
    /// A directory.
    Directory,
}

/// Sizes, times and attributes of a node.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    /// File or directory.
    pub kind: NodeKind,
    /// As stored; DIRECTORY is set for directories, NORMAL is never.
    pub attributes: FileAttributes,
    /// End of file in bytes; 0 for directories.
    pub size: u64,
    /// Bytes that a file occupies on disk; 0 for directories.
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
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Debug)]
pub struct VolumeInformation {
    /// The label, UTF-16.
    pub label: Vec<u16>,
    /// The serial number.
    pub serial: u32,
    /// "exFAT", "FAT32", ...
    pub file_system: &'static str,
    /// Code units a component may have.
    pub maximum_component: u32,
    /// When it was formatted, if known.
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
    /// The name cannot be stored on this kind of volume.
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
    /// The node is not open (any more), or the volume was taken away.
    Stale,
}
