//! Security descriptors for volumes that store none (MS-DTYP 2.4).

use bitflags::bitflags;

use crate::fscc::AccessMask;
use crate::reader::{Malformed, Reader, Writer};

bitflags! {
    /// Which parts of a security descriptor are meant (MS-DTYP 2.4.7).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SecurityInformation: u32 {
        /// The owner.
        const OWNER = 0x0000_0001;
        /// The primary group.
        const GROUP = 0x0000_0002;
        /// The discretionary access control list.
        const DACL = 0x0000_0004;
        /// The system access control list.
        const SACL = 0x0000_0008;
        /// The integrity label.
        const LABEL = 0x0000_0010;
    }
}

/// A security identifier (MS-DTYP 2.4.2). What lies beyond `count` in `subauthorities` is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sid {
    authority: u64,
    subauthorities: [u32; Sid::MAXIMUM],
    count: u8,
}

impl Sid {
    /// Sub-authorities that there can be.
    const MAXIMUM: usize = 15;

    /// S-1-1-0: everyone.
    pub const EVERYONE: Sid = Sid::new(1, &[0]);

    /// S-1-5-32: what every machine has of aliases.
    pub const BUILTIN: Sid = Sid::new(5, &[32]);

    /// S-1-5-32-544: the administrators of the machine.
    pub const ADMINISTRATORS: Sid = Sid::new(5, &[32, 544]);

    /// S-1-5-32-545: the users of the machine.
    pub const USERS: Sid = Sid::new(5, &[32, 545]);

    /// The relative identifier of the machine's account 0; the others follow.
    const FIRST_ACCOUNT: u32 = 1000;

    /// S-1-authority-subauthorities...; those beyond the fifteenth are left out.
    pub const fn new(authority: u64, subauthorities: &[u32]) -> Sid {
        let mut sid = Sid { authority, subauthorities: [0; Sid::MAXIMUM], count: 0 };
        let mut rest = subauthorities;
        while let [first, more @ ..] = rest
            && (sid.count as usize) < Sid::MAXIMUM
        {
            sid.subauthorities[sid.count as usize] = *first;
            sid.count += 1;
            rest = more;
        }
        sid
    }

    /// S-1-5-21-a-b-c: the accounts of the machine whose three numbers are given.
    pub const fn machine(machine: [u32; 3]) -> Sid {
        let [a, b, c] = machine;
        Sid::new(5, &[21, a, b, c])
    }

    /// The relative identifier of the machine's account `user`.
    pub const fn account_identifier(user: u16) -> u32 {
        Sid::FIRST_ACCOUNT + user as u32
    }

    /// S-1-5-21-a-b-c-(1000 + user): an account of the machine whose three numbers are given.
    pub const fn account(machine: [u32; 3], user: u16) -> Sid {
        let [a, b, c] = machine;
        Sid::new(5, &[21, a, b, c, Sid::account_identifier(user)])
    }

    /// The identifier with one more sub-authority; the same where there is no room for it.
    pub fn child(&self, relative: u32) -> Sid {
        let mut child = *self;
        if let Some(last) = child.subauthorities.get_mut(usize::from(self.count)) {
            *last = relative;
            child.count += 1;
        }
        child
    }

    /// The identifier without its last sub-authority, and that; `None` where there is none.
    pub fn split(&self) -> Option<(Sid, u32)> {
        let mut parent = *self;
        parent.count = self.count.checked_sub(1)?;
        let last = core::mem::take(parent.subauthorities.get_mut(usize::from(parent.count))?);
        Some((parent, last))
    }

    /// Its sub-authorities.
    pub fn subauthorities(&self) -> &[u32] {
        self.subauthorities.get(..usize::from(self.count)).unwrap_or(&[])
    }

    /// The number before them.
    pub const fn authority(&self) -> u64 {
        self.authority
    }

    /// Bytes on the wire.
    pub const fn size(&self) -> usize {
        8 + 4 * self.count as usize
    }

    /// Appends it.
    pub fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(1);
        writer.u8(self.count);
        // The authority is six bytes, big-endian.
        let [_, _, authority @ ..] = self.authority.to_be_bytes();
        writer.bytes(&authority);
        for subauthority in self.subauthorities() {
            writer.u32(*subauthority);
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// Cut short, of another revision, or with more than fifteen sub-authorities.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Sid, Malformed> {
        let [revision, count] = reader.array::<2>()?;
        let [a, b, c, d, e, f] = reader.array::<6>()?;
        let mut sid = Sid::new(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), &[]);
        if revision != 1 || usize::from(count) > Sid::MAXIMUM {
            return Err(Malformed);
        }
        for _ in 0..count {
            sid = sid.child(reader.u32()?);
        }
        Ok(sid)
    }
}

/// A descriptor that grants one thing to everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecurityDescriptor {
    /// The owner.
    pub owner: Sid,
    /// The primary group.
    pub group: Sid,
    /// What everyone may do.
    pub access: AccessMask,
    /// New entries of this directory inherit it.
    pub directory: bool,
}

/// SE_SELF_RELATIVE.
const SELF_RELATIVE: u16 = 0x8000;
/// SE_DACL_PRESENT.
const DACL_PRESENT: u16 = 0x0004;
/// OBJECT_INHERIT_ACE | CONTAINER_INHERIT_ACE.
const INHERIT: u8 = 3;

impl SecurityDescriptor {
    /// Appends the parts that were asked for, self-relative. There never is a system list.
    pub fn emit(&self, parts: SecurityInformation, writer: &mut Writer<'_>) {
        let mut writer = writer.nested();
        let dacl = parts.contains(SecurityInformation::DACL);
        writer.u8(1);
        writer.u8(0);
        writer.u16(SELF_RELATIVE | if dacl { DACL_PRESENT } else { 0 });
        // Offsets of owner, group, SACL, DACL: 0 where left out.
        writer.zeros(16);
        let here = |writer: &Writer<'_>| u32::try_from(writer.position()).unwrap_or(0);
        if parts.contains(SecurityInformation::OWNER) {
            let at = here(&writer);
            writer.patch_u32(4, at);
            self.owner.emit(&mut writer);
        }
        if parts.contains(SecurityInformation::GROUP) {
            let at = here(&writer);
            writer.patch_u32(8, at);
            self.group.emit(&mut writer);
        }
        if dacl {
            let at = here(&writer);
            writer.patch_u32(16, at);
            let entry_size = 8 + Sid::EVERYONE.size();
            // ACL: revision 2, one entry.
            writer.u8(2);
            writer.u8(0);
            writer.u16(u16::try_from(8 + entry_size).unwrap_or(0));
            writer.u16(1);
            writer.u16(0);
            // ACCESS_ALLOWED_ACE.
            writer.u8(0);
            writer.u8(if self.directory { INHERIT } else { 0 });
            writer.u16(u16::try_from(entry_size).unwrap_or(0));
            writer.u32(self.access.bits());
            Sid::EVERYONE.emit(&mut writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const DESCRIPTOR: SecurityDescriptor = SecurityDescriptor {
        owner: Sid::account([1, 2, 3], 4),
        group: Sid::USERS,
        access: AccessMask::ALL,
        directory: true,
    };

    fn emit(parts: SecurityInformation) -> Vec<u8> {
        let mut out = Vec::new();
        DESCRIPTOR.emit(parts, &mut Writer::new(&mut out));
        out
    }

    #[test]
    fn nothing_asked_is_a_bare_header() {
        let mut header = [0; 20];
        header[0] = 1;
        header[3] = 0x80;
        assert_eq!(emit(SecurityInformation::empty()), header);
    }

    #[test]
    fn identifiers_are_read_as_written() {
        let long = Sid::new(0x0102_0304_0506, &[7; 20]);
        assert_eq!(long.subauthorities(), [7; 15]);
        assert_eq!(long.child(1), long);
        for sid in [Sid::EVERYONE, Sid::account([1, u32::MAX, 3], 4), long, Sid::new(5, &[])] {
            let mut out = Vec::new();
            sid.emit(&mut Writer::new(&mut out));
            assert_eq!(out.len(), sid.size());
            assert_eq!(Sid::parse(&mut Reader::new(&out)), Ok(sid));
            assert_eq!(Sid::parse(&mut Reader::new(&out[..out.len() - 1])), Err(Malformed));
            assert_eq!(sid.split().map(|(parent, last)| parent.child(last)), sid.split().map(|_| sid));
        }
        let mut many = [1; 100];
        many[1] = 16;
        assert_eq!(Sid::parse(&mut Reader::new(&many)), Err(Malformed));
        assert_eq!(Sid::ADMINISTRATORS.split(), Some((Sid::BUILTIN, 544)));
        assert_eq!(Sid::machine([1, 2, 3]).child(1004), Sid::account([1, 2, 3], 4));
    }

    #[test]
    fn the_parts_are_where_the_header_says() {
        let out = emit(SecurityInformation::OWNER | SecurityInformation::GROUP | SecurityInformation::DACL);
        assert_eq!(out[..4], [1, 0, 4, 0x80]);
        assert_eq!(out[4..8], [20, 0, 0, 0]);
        assert_eq!(out[8..12], [48, 0, 0, 0]);
        assert_eq!(out[12..16], [0; 4]);
        assert_eq!(out[16..20], [64, 0, 0, 0]);
        assert_eq!(out[20..32], [1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0]);
        assert_eq!(out[44..48], 1004u32.to_le_bytes());
        assert_eq!(out[64..72], [2, 0, 28, 0, 1, 0, 0, 0]);
        assert_eq!(out[72..80], [0, 3, 20, 0, 0xFF, 0x01, 0x1F, 0x00]);
        assert_eq!(out[80..], [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    }
}
