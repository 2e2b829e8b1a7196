//! The one table that says what a request needs: a session, a tree, and rights on the handle it names.
//!
//! The share's rights are applied once, when a handle is opened: no handle has a right that its tree has not
//! (`grant`), so a check of the handle is a check of the share, too.

use crate::fscc::AccessMask;
use crate::wire::Command;

/// What a command needs before its handler is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// A valid session (and so its signing and encryption rules).
    pub session: bool,
    /// A connected tree.
    pub tree: bool,
    /// Whether a tree of pipes will do.
    pub on_pipes: bool,
}

pub(crate) const NOTHING: Needs = Needs { session: false, tree: false, on_pipes: true };
const SESSION: Needs = Needs { session: true, tree: false, on_pipes: true };
const TREE: Needs = Needs { session: true, tree: true, on_pipes: true };
const FILES: Needs = Needs { session: true, tree: true, on_pipes: false };

/// What `command` needs.
pub(crate) const fn command(command: Command) -> Needs {
    match command {
        Command::Negotiate | Command::SessionSetup | Command::Echo | Command::Cancel => NOTHING,
        Command::Logoff | Command::TreeConnect => SESSION,
        // A lease break acknowledgment carries any tree of its session; the id is checked where it is an oplock's.
        Command::OplockBreak => SESSION,
        Command::TreeDisconnect
        | Command::Create
        | Command::Close
        | Command::Flush
        | Command::Read
        | Command::Write
        | Command::Ioctl
        | Command::QueryInfo
        | Command::SetInfo => TREE,
        Command::Lock | Command::QueryDirectory | Command::ChangeNotify => FILES,
    }
}

/// Something done to an open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// What any handle may.
    Any,
    /// Read bytes.
    Read,
    /// Write bytes, lock aside.
    Write,
    /// Write bytes to disk.
    Flush,
    /// Lock a range.
    Lock,
    /// List, watch.
    List,
    /// Times, attributes.
    QueryAttributes,
    /// EAs.
    QueryExtendedAttributes,
    /// Owner, group, DACL.
    QuerySecurity,
    /// SACL.
    QuerySystemSecurity,
    /// Times, attributes.
    SetAttributes,
    /// EAs.
    SetExtendedAttributes,
    /// End of file, allocation, zeroes.
    SetSize,
    /// Rename, delete.
    Delete,
    /// DACL.
    SetAccess,
    /// Owner.
    SetOwner,
    /// SACL.
    SetSystemSecurity,
    /// The source of a server-side copy.
    CopyFrom,
    /// The target of COPYCHUNK, which may be read as well.
    CopyTo,
    /// The target of COPYCHUNK_WRITE.
    CopyToWriteOnly,
}

/// The rights of which a handle needs one (`any`), and all of `all`.
const fn rights(operation: Operation) -> (AccessMask, AccessMask) {
    const fn all(mask: AccessMask) -> (AccessMask, AccessMask) {
        (AccessMask::empty(), mask)
    }
    const fn any(mask: AccessMask) -> (AccessMask, AccessMask) {
        (mask, AccessMask::empty())
    }
    match operation {
        Operation::Any => all(AccessMask::empty()),
        Operation::Read | Operation::CopyFrom => any(AccessMask::READ_DATA.union(AccessMask::EXECUTE)),
        Operation::Write | Operation::Flush => any(AccessMask::WRITE_DATA.union(AccessMask::APPEND_DATA)),
        Operation::Lock => any(AccessMask::READ_DATA.union(AccessMask::WRITE_DATA)),
        Operation::List => all(AccessMask::READ_DATA),
        Operation::QueryAttributes => all(AccessMask::READ_ATTRIBUTES),
        Operation::QueryExtendedAttributes => all(AccessMask::READ_EA),
        Operation::QuerySecurity => all(AccessMask::READ_CONTROL),
        Operation::QuerySystemSecurity | Operation::SetSystemSecurity => {
            all(AccessMask::ACCESS_SYSTEM_SECURITY)
        }
        Operation::SetAttributes => all(AccessMask::WRITE_ATTRIBUTES),
        Operation::SetExtendedAttributes => all(AccessMask::WRITE_EA),
        Operation::SetSize | Operation::CopyToWriteOnly => all(AccessMask::WRITE_DATA),
        Operation::Delete => all(AccessMask::DELETE),
        Operation::SetAccess => all(AccessMask::WRITE_DAC),
        Operation::SetOwner => all(AccessMask::WRITE_OWNER),
        Operation::CopyTo => all(AccessMask::WRITE_DATA.union(AccessMask::READ_DATA)),
    }
}

/// Whether a handle that was granted `access` may do `operation`.
pub(crate) const fn allows(access: AccessMask, operation: Operation) -> bool {
    let (any, all) = rights(operation);
    (any.is_empty() || access.intersects(any)) && access.contains(all)
}

/// What a user may do with a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShareAccess {
    /// Not even connect.
    None,
    /// Read files.
    Read,
    /// Read and change files.
    Write,
}

impl ShareAccess {
    /// The most that a handle in the share can be granted.
    pub(crate) const fn maximal(self) -> AccessMask {
        match self {
            ShareAccess::None => AccessMask::empty(),
            ShareAccess::Read => AccessMask::READ_ONLY,
            ShareAccess::Write => AccessMask::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_can_change_nothing() {
        let reader = ShareAccess::Read.maximal();
        for operation in [
            Operation::Write,
            Operation::Flush,
            Operation::SetAttributes,
            Operation::SetExtendedAttributes,
            Operation::SetSize,
            Operation::Delete,
            Operation::SetAccess,
            Operation::SetOwner,
            Operation::CopyTo,
            Operation::CopyToWriteOnly,
        ] {
            assert!(!allows(reader, operation), "{operation:?}");
            assert!(allows(ShareAccess::Write.maximal(), operation), "{operation:?}");
        }
        assert!(allows(reader, Operation::Read) && allows(reader, Operation::List));
    }

    #[test]
    fn nothing_but_four_commands_goes_without_a_session() {
        let free = Command::ALL.into_iter().filter(|command| !super::command(*command).session).count();
        assert_eq!(free, 4);
    }
}
