//! The SMB2 packet header (MS-SMB2 2.2.1).

use bitflags::bitflags;

use crate::reader::{Malformed, Reader, Writer};

/// Bytes of a header.
pub const HEADER_LENGTH: usize = 64;
/// The first four bytes of an SMB2 message.
pub const PROTOCOL_ID: [u8; 4] = [0xFE, b'S', b'M', b'B'];
/// The first four bytes of an SMB1 message.
pub const SMB1_PROTOCOL_ID: [u8; 4] = [0xFF, b'S', b'M', b'B'];
/// The first four bytes of an encrypted message.
pub const TRANSFORM_PROTOCOL_ID: [u8; 4] = [0xFD, b'S', b'M', b'B'];
/// Where the signature lies in a header.
pub const SIGNATURE_RANGE: core::ops::Range<usize> = 48..64;

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// 2.2.3
    Negotiate = 0,
    /// 2.2.5
    SessionSetup = 1,
    /// 2.2.7
    Logoff = 2,
    /// 2.2.9
    TreeConnect = 3,
    /// 2.2.11
    TreeDisconnect = 4,
    /// 2.2.13
    Create = 5,
    /// 2.2.15
    Close = 6,
    /// 2.2.17
    Flush = 7,
    /// 2.2.19
    Read = 8,
    /// 2.2.21
    Write = 9,
    /// 2.2.26
    Lock = 10,
    /// 2.2.31
    Ioctl = 11,
    /// 2.2.30
    Cancel = 12,
    /// 2.2.28
    Echo = 13,
    /// 2.2.33
    QueryDirectory = 14,
    /// 2.2.35
    ChangeNotify = 15,
    /// 2.2.37
    QueryInfo = 16,
    /// 2.2.39
    SetInfo = 17,
    /// 2.2.23, 2.2.24
    OplockBreak = 18,
}

impl Command {
    /// Every command at the index that is its number.
    pub const ALL: [Command; 19] = [
        Command::Negotiate,
        Command::SessionSetup,
        Command::Logoff,
        Command::TreeConnect,
        Command::TreeDisconnect,
        Command::Create,
        Command::Close,
        Command::Flush,
        Command::Read,
        Command::Write,
        Command::Lock,
        Command::Ioctl,
        Command::Cancel,
        Command::Echo,
        Command::QueryDirectory,
        Command::ChangeNotify,
        Command::QueryInfo,
        Command::SetInfo,
        Command::OplockBreak,
    ];

    /// The command with this number.
    pub fn from_number(number: u16) -> Option<Command> {
        Command::ALL.get(usize::from(number)).copied()
    }
}

bitflags! {
    /// A header's Flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// From the server.
        const RESPONSE = 0x0000_0001;
        /// Carries an AsyncId in the place of the tree id.
        const ASYNCHRONOUS = 0x0000_0002;
        /// Uses the session, tree and file of the message before it in the compound.
        const RELATED = 0x0000_0004;
        /// The signature field holds one.
        const SIGNED = 0x0000_0008;
        /// Priority bits (3.1.1).
        const PRIORITY = 0x0000_0070;
        /// DFS names.
        const DFS = 0x1000_0000;
        /// Sent again after a failed channel.
        const REPLAY = 0x2000_0000;
    }
}

/// A packet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Credits that the message costs; 0 counts as 1.
    pub credit_charge: u16,
    /// Response: the NTSTATUS. Request (3.x): channel sequence in the low half.
    pub status: u32,
    /// The command's number.
    pub command: u16,
    /// Credits asked for, or granted.
    pub credits: u16,
    /// Flags.
    pub flags: Flags,
    /// Offset of the next message of the compound, or 0.
    pub next: u32,
    /// Number of the message in its connection.
    pub message_id: u64,
    /// The tree id in a synchronous message's upper 32 bits, or the AsyncId.
    pub tree_or_asynchronous: u64,
    /// The session.
    pub session_id: u64,
    /// MAC over the message with these 16 bytes zero.
    pub signature: [u8; 16],
}

impl Header {
    /// Reads the header that `message` begins with.
    ///
    /// # Errors
    /// `Malformed` when it is shorter than a header, is no SMB2 message, or says another StructureSize.
    pub fn parse(message: &[u8]) -> Result<Header, Malformed> {
        let mut reader = Reader::new(message);
        if reader.bytes(4)? != PROTOCOL_ID || reader.u16()? != 64 {
            return Err(Malformed);
        }
        Ok(Header {
            credit_charge: reader.u16()?,
            status: reader.u32()?,
            command: reader.u16()?,
            credits: reader.u16()?,
            flags: Flags::from_bits_retain(reader.u32()?),
            next: reader.u32()?,
            message_id: reader.u64()?,
            tree_or_asynchronous: reader.u64()?,
            session_id: reader.u64()?,
            signature: reader.array::<16>()?,
        })
    }

    /// Appends the 64 bytes.
    pub fn emit(&self, writer: &mut Writer<'_>) {
        writer.bytes(&PROTOCOL_ID);
        writer.u16(64);
        writer.u16(self.credit_charge);
        writer.u32(self.status);
        writer.u16(self.command);
        writer.u16(self.credits);
        writer.u32(self.flags.bits());
        writer.u32(self.next);
        writer.u64(self.message_id);
        writer.u64(self.tree_or_asynchronous);
        writer.u64(self.session_id);
        writer.bytes(&self.signature);
    }

    /// The tree id of a synchronous message.
    pub fn tree_id(&self) -> u32 {
        (self.tree_or_asynchronous >> 32) as u32
    }

    /// The credits the message costs, at least one.
    pub fn charge(&self) -> u16 {
        self.credit_charge.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// An ECHO request of smbclient 4.17.
    const ECHO: [u8; 68] = [
        0xFE, b'S', b'M', b'B', 64, 0, 1, 0, 0, 0, 0, 0, 13, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0,
        0, 0, 0, 0xFF, 0xFE, 0, 0, 7, 0, 0, 0, 0x31, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 4, 0, 0, 0,
    ];

    #[test]
    fn parses_and_emits_the_same() {
        let header = Header::parse(&ECHO).unwrap();
        assert_eq!(Command::from_number(header.command), Some(Command::Echo));
        assert_eq!((header.message_id, header.tree_id(), header.session_id), (5, 7, 0x8000_0000_0000_0031));
        let mut out = Vec::new();
        header.emit(&mut Writer::new(&mut out));
        assert_eq!(out, ECHO[..64]);
    }

    #[test]
    fn refuses_short_and_foreign() {
        assert!(Header::parse(&ECHO[..63]).is_err());
        let mut other = ECHO;
        other[4] = 65;
        assert!(Header::parse(&other).is_err());
        other = ECHO;
        other[0] = 0xFF;
        assert!(Header::parse(&other).is_err());
    }
}
