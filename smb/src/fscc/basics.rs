//! Times, attributes and access rights.

use bitflags::bitflags;

/// 100-nanosecond intervals since 1601-01-01T00:00:00Z (MS-DTYP 2.3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime(pub u64);

/// Intervals a second.
const INTERVALS: u64 = 10_000_000;

/// Seconds from 1601-01-01 to 1970-01-01.
const UNIX_EPOCH_SECONDS: u64 = 11_644_473_600;

impl FileTime {
    /// No time: a file system that keeps none answers this.
    pub const ZERO: FileTime = FileTime(0);

    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: FileTime = FileTime(UNIX_EPOCH_SECONDS * INTERVALS);

    /// From seconds since 1970 and nanoseconds in that second; cut to what the type can hold.
    pub const fn from_unix(seconds: i64, nanoseconds: u32) -> FileTime {
        let seconds = match seconds.checked_add(UNIX_EPOCH_SECONDS.cast_signed()) {
            Some(seconds) if seconds >= 0 => seconds.cast_unsigned(),
            Some(_) => return FileTime(0),
            None => return FileTime(u64::MAX),
        };
        FileTime(seconds.saturating_mul(INTERVALS).saturating_add((nanoseconds / 100) as u64))
    }

    /// Seconds since 1970 (negative before) and nanoseconds in that second.
    pub const fn to_unix(self) -> (i64, u32) {
        let seconds = (self.0 / INTERVALS).cast_signed() - UNIX_EPOCH_SECONDS.cast_signed();
        (seconds, (self.0 % INTERVALS) as u32 * 100)
    }
}

bitflags! {
    /// What kind of file it is, and how it wants to be treated (MS-FSCC 2.6).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FileAttributes: u32 {
        /// Not to be written or deleted.
        const READONLY = 0x0000_0001;
        /// Not shown by default.
        const HIDDEN = 0x0000_0002;
        /// Belongs to the operating system.
        const SYSTEM = 0x0000_0004;
        /// A directory.
        const DIRECTORY = 0x0000_0010;
        /// Changed since the last backup.
        const ARCHIVE = 0x0000_0020;
        /// No other attribute: only alone, and only on the wire.
        const NORMAL = 0x0000_0080;
        /// For temporary data.
        const TEMPORARY = 0x0000_0100;
        /// Has ranges without clusters.
        const SPARSE_FILE = 0x0000_0200;
        /// Has a reparse point.
        const REPARSE_POINT = 0x0000_0400;
        /// Is compressed.
        const COMPRESSED = 0x0000_0800;
        /// Its data is not on the disk now.
        const OFFLINE = 0x0000_1000;
        /// Not for the content indexer.
        const NOT_CONTENT_INDEXED = 0x0000_2000;
        /// Is encrypted on disk.
        const ENCRYPTED = 0x0000_4000;
        /// Has an integrity stream.
        const INTEGRITY_STREAM = 0x0000_8000;
        /// Not for the scrubber.
        const NO_SCRUB_DATA = 0x0002_0000;
        /// Opening recalls its data.
        const RECALL_ON_OPEN = 0x0004_0000;
        /// To be kept local.
        const PINNED = 0x0008_0000;
        /// Not to be kept local.
        const UNPINNED = 0x0010_0000;
        /// Reading recalls its data.
        const RECALL_ON_DATA_ACCESS = 0x0040_0000;
    }
}

impl FileAttributes {
    /// What a FAT or exFAT directory entry can store, the kind left out.
    pub const STORED: FileAttributes =
        Self::READONLY.union(Self::HIDDEN).union(Self::SYSTEM).union(Self::ARCHIVE);

    /// For the wire: NORMAL when nothing else is set.
    pub const fn to_wire(self) -> u32 {
        let others = self.difference(Self::NORMAL);
        if others.is_empty() { Self::NORMAL.bits() } else { others.bits() }
    }

    /// From the wire, without NORMAL; unknown bits are kept, so that a caller may refuse them.
    pub const fn from_wire(bits: u32) -> FileAttributes {
        Self::from_bits_retain(bits).difference(Self::NORMAL)
    }
}

bitflags! {
    /// Access rights to a file, pipe or directory (MS-SMB2 2.2.13.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct AccessMask: u32 {
        /// Read data; of a directory, list it.
        const READ_DATA = 0x0000_0001;
        /// Write data; in a directory, make files.
        const WRITE_DATA = 0x0000_0002;
        /// Append data; in a directory, make directories.
        const APPEND_DATA = 0x0000_0004;
        /// Read extended attributes.
        const READ_EA = 0x0000_0008;
        /// Write extended attributes.
        const WRITE_EA = 0x0000_0010;
        /// Execute; of a directory, traverse it.
        const EXECUTE = 0x0000_0020;
        /// Delete entries of a directory.
        const DELETE_CHILD = 0x0000_0040;
        /// Read attributes.
        const READ_ATTRIBUTES = 0x0000_0080;
        /// Write attributes.
        const WRITE_ATTRIBUTES = 0x0000_0100;
        /// Delete or rename.
        const DELETE = 0x0001_0000;
        /// Read the security descriptor.
        const READ_CONTROL = 0x0002_0000;
        /// Change the access control list.
        const WRITE_DAC = 0x0004_0000;
        /// Change the owner.
        const WRITE_OWNER = 0x0008_0000;
        /// Wait for the object.
        const SYNCHRONIZE = 0x0010_0000;
        /// Read or change the system access control list.
        const ACCESS_SYSTEM_SECURITY = 0x0100_0000;
        /// All that the user may have.
        const MAXIMUM_ALLOWED = 0x0200_0000;
        /// All rights.
        const GENERIC_ALL = 0x1000_0000;
        /// What executing needs.
        const GENERIC_EXECUTE = 0x2000_0000;
        /// What writing needs.
        const GENERIC_WRITE = 0x4000_0000;
        /// What reading needs.
        const GENERIC_READ = 0x8000_0000;
    }
}

impl AccessMask {
    /// FILE_ALL_ACCESS: every right a file has, 0x001F01FF.
    pub const ALL: AccessMask = AccessMask::from_bits_retain(0x001F_01FF);
    /// FILE_GENERIC_READ: 0x00120089.
    pub const READ: AccessMask = AccessMask::from_bits_retain(0x0012_0089);
    /// FILE_GENERIC_WRITE: 0x00120116.
    pub const WRITE: AccessMask = AccessMask::from_bits_retain(0x0012_0116);
    /// FILE_GENERIC_EXECUTE: 0x001200A0.
    pub const RUN: AccessMask = AccessMask::from_bits_retain(0x0012_00A0);

    /// Every bit that MS-SMB2 2.2.13.1 gives a meaning; others must be 0 in a request.
    pub const VALID: AccessMask = AccessMask::from_bits_retain(0xF31F_01FF);

    /// The rights with which a read-only user of a share gets by: reading, executing and what goes with them.
    pub const READ_ONLY: AccessMask = AccessMask::from_bits_retain(0x0012_00A9);

    /// Replaces the GENERIC bits by the file rights they stand for (MS-SMB2 2.2.13.1.1); MAXIMUM_ALLOWED stays.
    pub const fn expand_generic(self) -> AccessMask {
        let mut bits = self.bits() & 0x0FFF_FFFF;
        if self.contains(Self::GENERIC_READ) {
            bits |= Self::READ.bits();
        }
        if self.contains(Self::GENERIC_WRITE) {
            bits |= Self::WRITE.bits();
        }
        if self.contains(Self::GENERIC_EXECUTE) {
            bits |= Self::RUN.bits();
        }
        if self.contains(Self::GENERIC_ALL) {
            bits |= Self::ALL.bits();
        }
        AccessMask::from_bits_retain(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_times_convert_both_ways() {
        assert_eq!(FileTime::from_unix(0, 0), FileTime::UNIX_EPOCH);
        assert_eq!(FileTime::UNIX_EPOCH.0, 116_444_736_000_000_000);
        let time = FileTime::from_unix(1_700_000_000, 123_456_700);
        assert_eq!(time.to_unix(), (1_700_000_000, 123_456_700));
        assert_eq!(FileTime(0).to_unix(), (-11_644_473_600, 0));
        assert_eq!(FileTime::from_unix(i64::MIN, 0), FileTime(0));
        assert_eq!(FileTime::from_unix(i64::MAX, 0), FileTime(u64::MAX));
        assert_eq!(FileTime(u64::MAX).to_unix().1, 955_161_500);
    }

    #[test]
    fn normal_is_for_the_wire_only() {
        assert_eq!(FileAttributes::empty().to_wire(), 0x80);
        assert_eq!(FileAttributes::from_wire(0x80), FileAttributes::empty());
        assert_eq!((FileAttributes::NORMAL | FileAttributes::HIDDEN).to_wire(), 2);
    }

    #[test]
    fn generic_rights_expand() {
        assert_eq!(AccessMask::GENERIC_READ.expand_generic(), AccessMask::READ);
        assert_eq!(AccessMask::GENERIC_ALL.expand_generic(), AccessMask::ALL);
        assert_eq!(
            (AccessMask::MAXIMUM_ALLOWED | AccessMask::GENERIC_EXECUTE).expand_generic().bits(),
            0x0212_00A0
        );
    }
}
