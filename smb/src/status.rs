//! NTSTATUS values that an SMB file server answers with (MS-ERREF 2.3).

use core::fmt;

use crate::environment::VolumeError;

/// An NTSTATUS: severity in the two top bits, then customer bit, facility and code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NtStatus(pub u32);

/// Declares the named values once, as constants and as the table that Debug looks names up in.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl NtStatus {
            $($(#[$doc])* pub const $name: NtStatus = NtStatus($value);)*

            /// The name in MS-ERREF without its STATUS_ prefix, if it is one of those declared here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// Done.
    SUCCESS = 0x0000_0000,
    /// The final answer comes later (interim response).
    PENDING = 0x0000_0103,
    /// A change notification ended because its handle was closed.
    NOTIFY_CLEANUP = 0x0000_010B,
    /// Too many changes to report: the client has to enumerate the directory.
    NOTIFY_ENUM_DIR = 0x0000_010C,
    /// SMB1: the request is malformed.
    INVALID_SMB = 0x0001_0002,
    /// SMB1: the TID names no tree connect.
    SMB_BAD_TID = 0x0005_0002,
    /// SMB1: the FID names no open file.
    SMB_BAD_FID = 0x0006_0001,
    /// SMB1: the command is unknown.
    SMB_BAD_COMMAND = 0x0016_0002,
    /// SMB1: the UID names no session.
    SMB_BAD_UID = 0x005B_0002,
    /// SMB1: a server error without a better name.
    NON_SPECIFIC_SERVER_ERROR = 0x0001_FFFF,
    /// Part of the answer fits; it was cut.
    BUFFER_OVERFLOW = 0x8000_0005,
    /// The enumeration is at its end.
    NO_MORE_FILES = 0x8000_0006,
    /// The name of an extended attribute cannot be.
    INVALID_EA_NAME = 0x8000_0013,
    /// A list of extended attributes is malformed.
    EA_LIST_INCONSISTENT = 0x8000_0014,
    /// The enumeration of entries is at its end.
    NO_MORE_ENTRIES = 0x8000_001A,
    /// The path leads through a symbolic link.
    STOPPED_ON_SYMLINK = 0x8000_002D,
    /// Failed without a better name.
    UNSUCCESSFUL = 0xC000_0001,
    /// The function is not implemented.
    NOT_IMPLEMENTED = 0xC000_0002,
    /// The information class is unknown, or not for this object.
    INVALID_INFO_CLASS = 0xC000_0003,
    /// The buffer is too short for the fixed part of the information class.
    INFO_LENGTH_MISMATCH = 0xC000_0004,
    /// The handle is not one.
    INVALID_HANDLE = 0xC000_0008,
    /// A field of the request makes no sense.
    INVALID_PARAMETER = 0xC000_000D,
    /// There is no such device.
    NO_SUCH_DEVICE = 0xC000_000E,
    /// No entry matches the search pattern.
    NO_SUCH_FILE = 0xC000_000F,
    /// The object does not take this kind of request.
    INVALID_DEVICE_REQUEST = 0xC000_0010,
    /// The read starts at or beyond the end of the file.
    END_OF_FILE = 0xC000_0011,
    /// Another volume is there than was expected.
    WRONG_VOLUME = 0xC000_0012,
    /// One more leg of the log-on is needed.
    MORE_PROCESSING_REQUIRED = 0xC000_0016,
    /// Out of memory.
    NO_MEMORY = 0xC000_0017,
    /// The lock to release is not held.
    NOT_LOCKED = 0xC000_002A,
    /// The user, or the open, lacks the right.
    ACCESS_DENIED = 0xC000_0022,
    /// The answer does not fit, nothing of it was given.
    BUFFER_TOO_SMALL = 0xC000_0023,
    /// The object is of another kind than the request needs.
    OBJECT_TYPE_MISMATCH = 0xC000_0024,
    /// The structure on disk contradicts itself.
    DISK_CORRUPT_ERROR = 0xC000_0032,
    /// The name cannot be one.
    OBJECT_NAME_INVALID = 0xC000_0033,
    /// The last component of the path is not there.
    OBJECT_NAME_NOT_FOUND = 0xC000_0034,
    /// The name is taken.
    OBJECT_NAME_COLLISION = 0xC000_0035,
    /// A component before the last is not a directory.
    OBJECT_PATH_INVALID = 0xC000_0039,
    /// A component before the last is not there.
    OBJECT_PATH_NOT_FOUND = 0xC000_003A,
    /// The path's syntax is wrong: `..` above the root, a leading separator.
    OBJECT_PATH_SYNTAX_BAD = 0xC000_003B,
    /// An error in data.
    DATA_ERROR = 0xC000_003E,
    /// A checksum does not match.
    CRC_ERROR = 0xC000_003F,
    /// Another open does not share this access.
    SHARING_VIOLATION = 0xC000_0043,
    /// Extended attributes are not supported.
    EAS_NOT_SUPPORTED = 0xC000_004F,
    /// The extended attributes are too large.
    EA_TOO_LARGE = 0xC000_0050,
    /// There is no such extended attribute.
    NONEXISTENT_EA_ENTRY = 0xC000_0051,
    /// The file has no extended attributes.
    NO_EAS_ON_FILE = 0xC000_0052,
    /// A byte-range lock of another handle is in the way of a read or write.
    FILE_LOCK_CONFLICT = 0xC000_0054,
    /// The byte-range lock cannot be had now.
    LOCK_NOT_GRANTED = 0xC000_0055,
    /// The file is about to be deleted.
    DELETE_PENDING = 0xC000_0056,
    /// The file does not know this control code.
    CTL_FILE_NOT_SUPPORTED = 0xC000_0057,
    /// A revision number is unknown.
    UNKNOWN_REVISION = 0xC000_0058,
    /// Two revisions do not go together.
    REVISION_MISMATCH = 0xC000_0059,
    /// The security identifier may not own this object.
    INVALID_OWNER = 0xC000_005A,
    /// The log-on session is not there (any more).
    NO_SUCH_LOGON_SESSION = 0xC000_005F,
    /// The user lacks a privilege.
    PRIVILEGE_NOT_HELD = 0xC000_0061,
    /// There is no such account.
    NO_SUCH_USER = 0xC000_0064,
    /// The old password of a password change is wrong.
    WRONG_PASSWORD = 0xC000_006A,
    /// The new password does not meet the policy.
    PASSWORD_RESTRICTION = 0xC000_006C,
    /// Wrong user or wrong password: never says which.
    LOGON_FAILURE = 0xC000_006D,
    /// The account may not log on this way.
    ACCOUNT_RESTRICTION = 0xC000_006E,
    /// The password must be changed first.
    PASSWORD_EXPIRED = 0xC000_0071,
    /// The account is switched off.
    ACCOUNT_DISABLED = 0xC000_0072,
    /// No name could be mapped to an identifier.
    NONE_MAPPED = 0xC000_0073,
    /// The access control list is malformed.
    INVALID_ACL = 0xC000_0077,
    /// The security identifier is malformed.
    INVALID_SID = 0xC000_0078,
    /// The security descriptor is malformed.
    INVALID_SECURITY_DESCR = 0xC000_0079,
    /// The range to unlock is not locked by this handle.
    RANGE_NOT_LOCKED = 0xC000_007E,
    /// No space on the volume.
    DISK_FULL = 0xC000_007F,
    /// A fixed table of the server is full.
    INSUFFICIENT_RESOURCES = 0xC000_009A,
    /// The medium takes no changes.
    MEDIA_WRITE_PROTECTED = 0xC000_00A2,
    /// The device is not ready.
    DEVICE_NOT_READY = 0xC000_00A3,
    /// All instances of the pipe are in use.
    INSTANCE_NOT_AVAILABLE = 0xC000_00AB,
    /// No free instance of the pipe.
    PIPE_NOT_AVAILABLE = 0xC000_00AC,
    /// The pipe is in the wrong state.
    INVALID_PIPE_STATE = 0xC000_00AD,
    /// The pipe is busy.
    PIPE_BUSY = 0xC000_00AE,
    /// The other end of the pipe is gone.
    PIPE_DISCONNECTED = 0xC000_00B0,
    /// The pipe is being closed.
    PIPE_CLOSING = 0xC000_00B1,
    /// The pipe is connected.
    PIPE_CONNECTED = 0xC000_00B2,
    /// The pipe waits for the other end.
    PIPE_LISTENING = 0xC000_00B3,
    /// The request took too long.
    IO_TIMEOUT = 0xC000_00B5,
    /// The file was closed from the server's side.
    FILE_FORCED_CLOSED = 0xC000_00B6,
    /// A file was asked for, it is a directory.
    FILE_IS_A_DIRECTORY = 0xC000_00BA,
    /// The server does not support this.
    NOT_SUPPORTED = 0xC000_00BB,
    /// The name is in use on the network.
    DUPLICATE_NAME = 0xC000_00BD,
    /// The network path was not found.
    BAD_NETWORK_PATH = 0xC000_00BE,
    /// The tree connect is not there (any more).
    NETWORK_NAME_DELETED = 0xC000_00C9,
    /// The user may not use this network resource.
    NETWORK_ACCESS_DENIED = 0xC000_00CA,
    /// The share is of another kind than was asked for.
    BAD_DEVICE_TYPE = 0xC000_00CB,
    /// There is no such share.
    BAD_NETWORK_NAME = 0xC000_00CC,
    /// Too many sessions.
    TOO_MANY_SESSIONS = 0xC000_00CE,
    /// The server takes no more requests of this kind now.
    REQUEST_NOT_ACCEPTED = 0xC000_00D0,
    /// A rename to another volume.
    NOT_SAME_DEVICE = 0xC000_00D4,
    /// The file has been renamed and cannot be temporarily modified.
    FILE_RENAMED = 0xC000_00D5,
    /// The pipe has nothing to read.
    PIPE_EMPTY = 0xC000_00D9,
    /// The opportunistic lock cannot be had.
    OPLOCK_NOT_GRANTED = 0xC000_00E2,
    /// An acknowledgement to no oplock break.
    INVALID_OPLOCK_PROTOCOL = 0xC000_00E3,
    /// A fault of the server's own.
    INTERNAL_ERROR = 0xC000_00E5,
    /// An error of the disk without a better name.
    UNEXPECTED_IO_ERROR = 0xC000_00E9,
    /// The directory has entries.
    DIRECTORY_NOT_EMPTY = 0xC000_0101,
    /// The file's structure on disk contradicts itself.
    FILE_CORRUPT_ERROR = 0xC000_0102,
    /// A directory was asked for, it is a file.
    NOT_A_DIRECTORY = 0xC000_0103,
    /// The name is too long.
    NAME_TOO_LONG = 0xC000_0106,
    /// Opens are in the way.
    FILES_OPEN = 0xC000_0107,
    /// Too many files are open.
    TOO_MANY_OPENED_FILES = 0xC000_011F,
    /// The request was cancelled.
    CANCELLED = 0xC000_0120,
    /// The file cannot be deleted (read-only, a root).
    CANNOT_DELETE = 0xC000_0121,
    /// The file has been deleted.
    FILE_DELETED = 0xC000_0123,
    /// The open is not there (any more).
    FILE_CLOSED = 0xC000_0128,
    /// The information level is unknown.
    INVALID_LEVEL = 0xC000_0148,
    /// The pipe is broken.
    PIPE_BROKEN = 0xC000_014B,
    /// The account may not log on from the network.
    LOGON_TYPE_NOT_GRANTED = 0xC000_015B,
    /// The device is in the wrong state.
    INVALID_DEVICE_STATE = 0xC000_0184,
    /// The disk answered with an error.
    IO_DEVICE_ERROR = 0xC000_0185,
    /// File-system driver required: the server is not part of a DFS name space.
    FS_DRIVER_REQUIRED = 0xC000_019C,
    /// A lock range that wraps around.
    INVALID_LOCK_RANGE = 0xC000_01A1,
    /// The session is not there (any more).
    USER_SESSION_DELETED = 0xC000_0203,
    /// The user's buffer has an invalid size.
    INVALID_BUFFER_SIZE = 0xC000_0206,
    /// The connection was closed.
    CONNECTION_DISCONNECTED = 0xC000_020C,
    /// The connection was reset.
    CONNECTION_RESET = 0xC000_020D,
    /// The object was not found.
    NOT_FOUND = 0xC000_0225,
    /// Try again.
    RETRY = 0xC000_022D,
    /// Too many wrong passwords lately.
    ACCOUNT_LOCKED_OUT = 0xC000_0234,
    /// The path is in a DFS name space that another server covers.
    PATH_NOT_COVERED = 0xC000_0257,
    /// The volume was taken away.
    VOLUME_DISMOUNTED = 0xC000_026E,
    /// The file has no reparse point.
    NOT_A_REPARSE_POINT = 0xC000_0275,
    /// The directory is a reparse point.
    DIRECTORY_IS_A_REPARSE_POINT = 0xC000_0281,
    /// The object has no identifier.
    OBJECTID_NOT_FOUND = 0xC000_02F0,
    /// The session's ticket has expired: authenticate again.
    NETWORK_SESSION_EXPIRED = 0xC000_035C,
    /// The operation needs a newer state of the object.
    REQUEST_OUT_OF_SEQUENCE = 0xC000_042A,
    /// Beyond what the volume's format can hold.
    FILE_SYSTEM_LIMITATION = 0xC000_0427,
    /// The server is going away.
    SERVER_UNAVAILABLE = 0xC000_0466,
    /// The file is not available now.
    FILE_NOT_AVAILABLE = 0xC000_0467,
    /// The file is too large for the operation.
    FILE_TOO_LARGE = 0xC000_0904,
    /// A signature does not match.
    INVALID_SIGNATURE = 0xC000_A000,
    /// Branch-cache hashes are not supported.
    HASH_NOT_SUPPORTED = 0xC000_A100,
    /// Client and server share no preauthentication hash (MS-SMB2 3.3.5.4).
    SMB_NO_PREAUTH_INTEGRITY_HASH_OVERLAP = 0xC05D_0000,
}

impl NtStatus {
    /// Whether the severity is error (0xCxxxxxxx).
    pub const fn is_error(self) -> bool {
        self.0 >> 30 == 3
    }

    /// Whether the severity is warning (0x8xxxxxxx).
    pub const fn is_warning(self) -> bool {
        self.0 >> 30 == 2
    }

    /// Whether the severity is success or informational (below 0x80000000).
    pub const fn is_success(self) -> bool {
        self.0 >> 31 == 0
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "NtStatus({:#010x})", self.0),
        }
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

impl From<VolumeError> for NtStatus {
    /// What Windows answers in the same case on its own FAT and exFAT volumes.
    fn from(error: VolumeError) -> NtStatus {
        match error {
            VolumeError::NotFound => NtStatus::OBJECT_NAME_NOT_FOUND,
            VolumeError::PathNotFound => NtStatus::OBJECT_PATH_NOT_FOUND,
            VolumeError::Exists => NtStatus::OBJECT_NAME_COLLISION,
            VolumeError::IsADirectory => NtStatus::FILE_IS_A_DIRECTORY,
            VolumeError::NotADirectory => NtStatus::NOT_A_DIRECTORY,
            VolumeError::NotEmpty => NtStatus::DIRECTORY_NOT_EMPTY,
            // A file that would outgrow the format is refused as if space had run out.
            VolumeError::Full | VolumeError::TooLarge => NtStatus::DISK_FULL,
            VolumeError::NameInvalid => NtStatus::OBJECT_NAME_INVALID,
            VolumeError::ReadOnly => NtStatus::MEDIA_WRITE_PROTECTED,
            VolumeError::InUse => NtStatus::ACCESS_DENIED,
            VolumeError::Io => NtStatus::IO_DEVICE_ERROR,
            VolumeError::Corrupt => NtStatus::FILE_CORRUPT_ERROR,
            VolumeError::NoResources => NtStatus::INSUFFICIENT_RESOURCES,
            VolumeError::Stale => NtStatus::FILE_CLOSED,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn debug_prints_the_name_or_the_number() {
        assert_eq!(format!("{:?}", NtStatus::OBJECT_NAME_NOT_FOUND), "OBJECT_NAME_NOT_FOUND");
        assert_eq!(format!("{:?}", NtStatus(0xC0FF_EE00)), "NtStatus(0xc0ffee00)");
    }

    #[test]
    fn severities() {
        assert!(NtStatus::PENDING.is_success());
        assert!(NtStatus::BUFFER_OVERFLOW.is_warning() && !NtStatus::BUFFER_OVERFLOW.is_error());
        assert!(NtStatus::ACCESS_DENIED.is_error() && !NtStatus::ACCESS_DENIED.is_success());
    }
}
