//! Accounts, as the acceptor sees them.

use md4::{Digest, Md4};
use zeroize::Zeroize;

/// An account's number: small, stable, the appliance's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountNumber(pub u16);

/// What an account may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountFlags {
    /// May change the appliance.
    pub administrator: bool,
    /// May not log on.
    pub disabled: bool,
}

/// An account: its number, its key and its flags.
#[derive(Clone)]
pub struct Account {
    /// Its number.
    pub number: AccountNumber,
    /// The MD4 of its password in UTF-16LE: as good as the password, so keep it as safe. Wiped when dropped.
    pub nt_hash: [u8; 16],
    /// What it may do.
    pub flags: AccountFlags,
}

impl core::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Account").field("number", &self.number).field("flags", &self.flags).finish()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.nt_hash.zeroize();
    }
}

/// Where accounts are kept.
pub trait AccountStore {
    /// The account of that name (UTF-16 as the client typed it), case left aside as [`same_name`] does it. To keep an
    /// unknown name from being told by time, look at all accounts even after one was found.
    fn find(&self, name: &[u16]) -> Option<Account>;
}

/// The key that NTLM makes of a password.
pub fn nt_hash(password: &str) -> [u8; 16] {
    let mut digest = Md4::new();
    for unit in password.encode_utf16() {
        digest.update(unit.to_le_bytes());
    }
    digest.finalize().into()
}

/// Whether two account names are one, case left aside.
pub fn same_name(typed: &[u16], stored: &str) -> bool {
    let mut typed = typed.iter().map(|unit| upper_case(*unit));
    let mut stored = stored.encode_utf16().map(upper_case);
    loop {
        match (typed.next(), stored.next()) {
            (None, None) => return true,
            (left, right) if left != right => return false,
            _ => {}
        }
    }
}

/// The upper case of a UTF-16 code unit, itself where that would not be one unit.
pub(crate) fn upper_case(unit: u16) -> u16 {
    let Some(character) = char::from_u32(u32::from(unit)) else { return unit };
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => u16::try_from(u32::from(upper)).unwrap_or(unit),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// MS-NLMP 4.2.2.1.2.
    #[test]
    fn hash_of_the_example_password() {
        let expected =
            [0xA4, 0xF4, 0x9C, 0x40, 0x65, 0x10, 0xBD, 0xCA, 0xB6, 0x82, 0x4E, 0xE7, 0xC3, 0x0F, 0xD8, 0x52];
        assert_eq!(nt_hash("Password"), expected);
    }

    #[test]
    fn names_are_one_whatever_their_case() {
        let utf16 = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
        assert!(same_name(&utf16("NÄS"), "näs"));
        assert!(!same_name(&utf16("nas"), "nas2"));
        assert!(!same_name(&utf16("nas2"), "nas"));
        assert!(same_name(&[], ""));
        assert_eq!(upper_case(u16::from(b'z')), u16::from(b'Z'));
        assert_eq!(upper_case(0xDF), 0xDF);
        assert_eq!(upper_case(0xD800), 0xD800);
    }
}
