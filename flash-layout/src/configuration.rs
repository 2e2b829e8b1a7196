//! The appliance's configuration: typed, kept in the [`log`](crate::log), one record for each setting, user and share.
//!
//! Kinds of records, and their values (numbers big-endian; bytes behind what a version knows are ignored):
//!
//! | kind | key | value |
//! |---|---|---|
//! | 1 | `host-name`, `workgroup` | UTF-8 |
//! | 1 | `identity` | 16 random bytes |
//! | 1 | `signing`, `encryption` | one byte, see [`Policy`] |
//! | 1 | `format-blank-disks` | one byte, see [`BlankDisks`] |
//! | 1 | `workers` | one byte, 10 to 20 |
//! | 1 | `port0`, `port1` | DHCP (1 byte), static address there (1), address (4), prefix length (1), gateway there (1), gateway (4) |
//! | 2 | the user's name, UTF-8 | number (2), flags (1; bit 0 administrator, bit 1 disabled), NT hash (16) |
//! | 3 | the share's name, UTF-8 | volume (1), flags (1; bit 0 hidden, bit 1 encryption required), access of every user (1), of guests (1), count of exceptions (1), these (user number 2, access 1), comment to the end |
//!
//! A setting that is absent, or whose value makes no sense, has its default; such a user or share is left out.

use alloc::string::String;
use alloc::vec::Vec;

use embedded_storage::nor_flash::NorFlash;

use crate::bytes::{array, u16_at};
use crate::log::{Kind, Log, LogError};

/// The most accounts there can be.
pub const USER_LIMIT: usize = 64;
/// The most shares there can be.
pub const SHARE_LIMIT: usize = 32;
/// The most exceptions a share's access list can have.
pub const EXCEPTION_LIMIT: usize = USER_LIMIT;
/// Ethernet ports.
pub const PORTS: usize = 2;
/// Bytes of UTF-8 in a host, workgroup, user or share name.
pub const NAME_LIMIT: usize = 60;
/// Bytes of UTF-8 in a share's comment.
pub const COMMENT_LIMIT: usize = 120;

const SETTING: Kind = 1;
const USER: Kind = 2;
const SHARE: Kind = 3;

/// Everything that the console can set.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Configuration {
    /// Name of the appliance: NetBIOS, DNS and SMB all show it. At most 15 bytes, as NetBIOS has it.
    pub host_name: String,
    /// Random bytes that tell this machine from others of the same name: SMB's ServerGuid, its accounts' security
    /// identifiers. Made at the first start.
    pub identity: Option<[u8; 16]>,
    /// Workgroup or NetBIOS domain, at most 15 bytes.
    pub workgroup: String,
    /// Whether requests must be signed.
    pub signing: Policy,
    /// Whether sessions must be encrypted.
    pub encryption: Policy,
    /// One-shot: what the next start makes of blank disks; then it is [`BlankDisks::Leave`].
    pub blank_disks: BlankDisks,
    /// SMB worker threads, 10 to 20.
    pub workers: u8,
    /// The Ethernet ports, in the order of their slots.
    pub ports: [PortConfiguration; PORTS],
    /// Accounts, in the order of their names.
    pub users: Vec<User>,
    /// Shares, in the order of their names.
    pub shares: Vec<Share>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            host_name: String::from("NAS"),
            identity: None,
            workgroup: String::from("WORKGROUP"),
            signing: Policy::Required,
            encryption: Policy::Offered,
            blank_disks: BlankDisks::Leave,
            workers: 16,
            ports: [PortConfiguration::default(); PORTS],
            users: Vec::new(),
            shares: Vec::new(),
        }
    }
}

/// What a start makes of blank disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlankDisks {
    /// Nothing: they wait for the console.
    Leave = 0,
    /// Two become a mirror with one volume, one alone a volume of its own.
    Mirror = 1,
    /// Each becomes a volume of its own.
    Single = 2,
}

impl BlankDisks {
    /// What a byte in flash stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Leave),
            1 => Some(Self::Mirror),
            2 => Some(Self::Single),
            _ => None,
        }
    }
}

/// How much a protection is insisted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// Not even offered.
    Off = 0,
    /// For clients that want it.
    Offered = 1,
    /// Clients without it are refused.
    Required = 2,
}

impl Policy {
    /// The policy that a byte in flash stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Off),
            1 => Some(Self::Offered),
            2 => Some(Self::Required),
            _ => None,
        }
    }
}

/// What somebody may do in a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Access {
    /// Not connect.
    None = 0,
    /// Read and list.
    Read = 1,
    /// Everything.
    Write = 2,
}

impl Access {
    /// The access that a byte in flash stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            _ => None,
        }
    }
}

/// How an Ethernet port gets its IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortConfiguration {
    /// Ask a DHCP server.
    pub dhcp: bool,
    /// The port's address without DHCP, or when no DHCP server answers.
    pub address: Option<StaticAddress>,
}

impl Default for PortConfiguration {
    fn default() -> Self {
        Self { dhcp: true, address: None }
    }
}

/// An IPv4 address with its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    /// The address, first byte first.
    pub address: [u8; 4],
    /// Bits of network, 0 to 32.
    pub prefix_length: u8,
    /// The default gateway.
    pub gateway: Option<[u8; 4]>,
}

/// An account.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The number that access lists and files know it by; never given to another account while one list has it.
    pub number: u16,
    /// The name, matched without regard to case.
    pub name: String,
    /// MD4 of the password in UTF-16LE. As good as the password itself to an NTLM client: never shown.
    pub nt_hash: [u8; 16],
    /// May change the appliance.
    pub administrator: bool,
    /// May not log on.
    pub disabled: bool,
}

impl core::fmt::Debug for User {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The hash stays out of logs.
        let mut debug = formatter.debug_struct("User");
        debug
            .field("number", &self.number)
            .field("name", &self.name)
            .field("administrator", &self.administrator);
        debug.field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The name, matched without regard to case.
    pub name: String,
    /// Index of the volume it shows.
    pub volume: u8,
    /// What any user may do who is not among the exceptions.
    pub access: Access,
    /// What somebody may do who has not logged on as anybody.
    pub guest: Access,
    /// Users with a different access, by their numbers.
    pub exceptions: Vec<(u16, Access)>,
    /// Not shown in the list of shares.
    pub hidden: bool,
    /// Only for encrypted sessions.
    pub encrypted: bool,
    /// Shown beside the name.
    pub comment: String,
}

impl Share {
    /// A share of `volume` that every user may write and nobody else may see.
    #[must_use]
    pub fn new(name: &str, volume: u8) -> Self {
        Self {
            name: String::from(name),
            volume,
            access: Access::Write,
            guest: Access::None,
            exceptions: Vec::new(),
            hidden: false,
            encrypted: false,
            comment: String::new(),
        }
    }

    /// What the user with `number` may do.
    #[must_use]
    pub fn access_of(&self, number: u16) -> Access {
        self.exceptions.iter().find(|(user, _)| *user == number).map_or(self.access, |(_, access)| *access)
    }
}

impl Configuration {
    /// What the log holds, with defaults for what it does not.
    pub fn load<F: NorFlash>(log: &mut Log<F>) -> Result<Self, LogError<F::Error>> {
        let mut configuration = Self::default();
        if let Some(name) = text(log.get(SETTING, b"host-name")?).filter(|name| valid_netbios_name(name)) {
            configuration.host_name = name;
        }
        if let Some(name) = text(log.get(SETTING, b"workgroup")?).filter(|name| valid_netbios_name(name)) {
            configuration.workgroup = name;
        }
        configuration.identity = log.get(SETTING, b"identity")?.and_then(|value| value.try_into().ok());
        let mut byte =
            |key: &[u8]| Ok::<_, LogError<F::Error>>(log.get(SETTING, key)?.and_then(|v| v.first().copied()));
        if let Some(policy) = byte(b"signing")?.and_then(Policy::from_byte) {
            configuration.signing = policy;
        }
        if let Some(policy) = byte(b"encryption")?.and_then(Policy::from_byte) {
            configuration.encryption = policy;
        }
        if let Some(workers @ 10..=20) = byte(b"workers")? {
            configuration.workers = workers;
        }
        if let Some(blank_disks) = byte(b"format-blank-disks")?.and_then(BlankDisks::from_byte) {
            configuration.blank_disks = blank_disks;
        }
        for (port, key) in configuration.ports.iter_mut().zip(PORT_KEYS) {
            if let Some(parsed) = log.get(SETTING, key)?.as_deref().and_then(parse_port) {
                *port = parsed;
            }
        }
        for key in keys(log, USER, USER_LIMIT) {
            if let Some(user) = log.get(USER, &key)?.and_then(|value| parse_user(&key, &value)) {
                configuration.users.push(user);
            }
        }
        for key in keys(log, SHARE, SHARE_LIMIT) {
            if let Some(share) = log.get(SHARE, &key)?.and_then(|value| parse_share(&key, &value)) {
                configuration.shares.push(share);
            }
        }
        Ok(configuration)
    }

    /// Writes what differs from what the log holds. Each setting, user and share changes whole or not at all; when
    /// power fails in between, some have changed and the others not. Check with [`Configuration::check`] before.
    pub fn save<F: NorFlash>(&self, log: &mut Log<F>) -> Result<(), LogError<F::Error>> {
        log.set(SETTING, b"host-name", self.host_name.as_bytes())?;
        log.set(SETTING, b"workgroup", self.workgroup.as_bytes())?;
        if let Some(identity) = &self.identity {
            log.set(SETTING, b"identity", identity)?;
        }
        log.set(SETTING, b"signing", &[self.signing as u8])?;
        log.set(SETTING, b"encryption", &[self.encryption as u8])?;
        log.set(SETTING, b"workers", &[self.workers])?;
        log.set(SETTING, b"format-blank-disks", &[self.blank_disks as u8])?;
        for (port, key) in self.ports.iter().zip(PORT_KEYS) {
            log.set(SETTING, key, &emit_port(port))?;
        }
        // What goes away goes first: that makes room, and a share is never left to a user who is gone.
        for key in keys(log, SHARE, usize::MAX) {
            if !self.shares.iter().any(|share| share.name.as_bytes() == key) {
                log.remove(SHARE, &key)?;
            }
        }
        for key in keys(log, USER, usize::MAX) {
            if !self.users.iter().any(|user| user.name.as_bytes() == key) {
                log.remove(USER, &key)?;
            }
        }
        for user in &self.users {
            log.set(USER, user.name.as_bytes(), &emit_user(user))?;
        }
        for share in &self.shares {
            log.set(SHARE, share.name.as_bytes(), &emit_share(share))?;
        }
        Ok(())
    }

    /// Why this configuration must not be saved, if so, in words for the console.
    pub fn check(&self) -> Result<(), &'static str> {
        if !valid_netbios_name(&self.host_name) || !valid_netbios_name(&self.workgroup) {
            return Err("host name and workgroup are 1 to 15 letters, digits or hyphens");
        }
        if !(10..=20).contains(&self.workers) {
            return Err("there are 10 to 20 workers");
        }
        if self.users.len() > USER_LIMIT || self.shares.len() > SHARE_LIMIT {
            return Err("there can be 64 users and 32 shares");
        }
        if !self.users.iter().all(|user| valid_user_name(&user.name)) {
            return Err("a user name has 1 to 20 characters and none of \"/\\[]:;|=,+*?<>");
        }
        if !self.shares.iter().all(|share| valid_share_name(&share.name)) {
            return Err("a share name has 1 to 60 bytes and none of \"/\\[]:;|=,+*?<>, and is not IPC$");
        }
        if self
            .shares
            .iter()
            .any(|share| share.comment.len() > COMMENT_LIMIT || share.exceptions.len() > EXCEPTION_LIMIT)
        {
            return Err("a share's comment has at most 120 bytes, its access list 64 entries");
        }
        let mut numbers: Vec<u16> = self.users.iter().map(|user| user.number).collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err("two users have the same number");
        }
        let user_names = self.users.iter().map(|user| user.name.as_str());
        let share_names = self.shares.iter().map(|share| share.name.as_str());
        if !distinct(user_names) || !distinct(share_names) {
            return Err("two users, or two shares, have the same name");
        }
        Ok(())
    }

    /// The user called `name`, without regard to case.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| same_name(&user.name, name))
    }

    /// The share called `name`, without regard to case.
    #[must_use]
    pub fn share(&self, name: &str) -> Option<&Share> {
        self.shares.iter().find(|share| same_name(&share.name, name))
    }

    /// A number for a new user: one above the highest that any user or access list has. 0 is never given.
    #[must_use]
    pub fn next_user_number(&self) -> u16 {
        let listed = self.shares.iter().flat_map(|share| share.exceptions.iter().map(|(number, _)| *number));
        let highest = self.users.iter().map(|user| user.number).chain(listed).max().unwrap_or(0);
        highest.checked_add(1).unwrap_or_else(|| {
            // 65,535 accounts were made: take the lowest number that is free, among 65 candidates one is.
            (1..=u16::MAX).find(|number| self.users.iter().all(|user| user.number != *number)).unwrap_or(1)
        })
    }
}

const PORT_KEYS: [&[u8]; PORTS] = [b"port0", b"port1"];

/// Characters that neither a user nor a share may have in its name (MS-SAMR 3.1.1.6, MS-SRVS 2.2.2.2).
const FORBIDDEN: &str = "\"/\\[]:;|=,+*?<>";

/// Whether two names are the same to a client: simple upper-casing, as SMB clients do it.
#[must_use]
pub fn same_name(one: &str, other: &str) -> bool {
    one.chars().flat_map(char::to_uppercase).eq(other.chars().flat_map(char::to_uppercase))
}

/// Whether `name` is a host or workgroup name that NetBIOS and DNS both take.
#[must_use]
pub fn valid_netbios_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether a user may have this name.
#[must_use]
pub fn valid_user_name(name: &str) -> bool {
    name.chars().count() <= 20 && valid_name(name)
}

/// Whether a share may have this name.
#[must_use]
pub fn valid_share_name(name: &str) -> bool {
    valid_name(name) && !same_name(name, "IPC$")
}

fn valid_name(name: &str) -> bool {
    (1..=NAME_LIMIT).contains(&name.len())
        && !name.chars().any(|character| character.is_control() || FORBIDDEN.contains(character))
        && name.trim() == name
        && !name.chars().all(|character| character == '.')
}

fn distinct<'a>(names: impl Iterator<Item = &'a str> + Clone) -> bool {
    let mut rest = names;
    while let Some(name) = rest.next() {
        if rest.clone().any(|other| same_name(name, other)) {
            return false;
        }
    }
    true
}

fn keys<F: NorFlash>(log: &Log<F>, kind: Kind, limit: usize) -> Vec<Vec<u8>> {
    log.keys(kind).take(limit).map(<[u8]>::to_vec).collect()
}

fn text(value: Option<Vec<u8>>) -> Option<String> {
    value.and_then(|bytes| String::from_utf8(bytes).ok())
}

fn parse_port(value: &[u8]) -> Option<PortConfiguration> {
    let [dhcp @ (0 | 1), has_address @ (0 | 1), ..] = *value else { return None };
    let &prefix_length = value.get(6)?;
    let gateway = match *value.get(7)? {
        0 => None,
        _ => Some(array(value, 8)?),
    };
    let address = StaticAddress { address: array(value, 2)?, prefix_length, gateway };
    let valid = prefix_length <= 32;
    Some(PortConfiguration { dhcp: dhcp == 1, address: (has_address == 1 && valid).then_some(address) })
}

fn emit_port(port: &PortConfiguration) -> Vec<u8> {
    let mut value = alloc::vec![u8::from(port.dhcp), u8::from(port.address.is_some())];
    let address = port.address.unwrap_or(StaticAddress { address: [0; 4], prefix_length: 0, gateway: None });
    value.extend(address.address);
    value.push(address.prefix_length);
    value.push(u8::from(address.gateway.is_some()));
    value.extend(address.gateway.unwrap_or([0; 4]));
    value
}

fn parse_user(key: &[u8], value: &[u8]) -> Option<User> {
    let name = core::str::from_utf8(key).ok().filter(|name| valid_user_name(name))?;
    let flags = *value.get(2)?;
    Some(User {
        number: u16_at(value, 0)?,
        name: String::from(name),
        nt_hash: array(value, 3)?,
        administrator: flags & 1 != 0,
        disabled: flags & 2 != 0,
    })
}

fn emit_user(user: &User) -> Vec<u8> {
    let mut value = user.number.to_be_bytes().to_vec();
    value.push(u8::from(user.administrator) | u8::from(user.disabled) << 1);
    value.extend(user.nt_hash);
    value
}

fn parse_share(key: &[u8], value: &[u8]) -> Option<Share> {
    let name = core::str::from_utf8(key).ok().filter(|name| valid_share_name(name))?;
    let [volume, flags, access, guest, count, ..] = *value else { return None };
    let list_end = 5 + 3 * usize::from(count);
    let exceptions = value.get(5..list_end)?.chunks_exact(3).map(|entry| match *entry {
        [high, low, access] => Some((u16::from_be_bytes([high, low]), Access::from_byte(access)?)),
        _ => None,
    });
    Some(Share {
        name: String::from(name),
        volume,
        access: Access::from_byte(access)?,
        guest: Access::from_byte(guest)?,
        exceptions: exceptions.collect::<Option<_>>()?,
        hidden: flags & 1 != 0,
        encrypted: flags & 2 != 0,
        comment: String::from(core::str::from_utf8(value.get(list_end..)?).ok()?),
    })
}

fn emit_share(share: &Share) -> Vec<u8> {
    let flags = u8::from(share.hidden) | u8::from(share.encrypted) << 1;
    let exceptions = share.exceptions.iter().take(EXCEPTION_LIMIT);
    // At most EXCEPTION_LIMIT, which a byte can count.
    let count = exceptions.len() as u8;
    let mut value = alloc::vec![share.volume, flags, share.access as u8, share.guest as u8, count];
    for (number, access) in exceptions {
        value.extend(number.to_be_bytes());
        value.push(*access as u8);
    }
    value.extend(share.comment.bytes());
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::CONFIGURATION;
    use crate::ram_flash::RamFlash;

    fn user(number: u16, name: &str) -> User {
        User {
            number,
            name: name.to_string(),
            nt_hash: [number as u8; 16],
            administrator: number == 1,
            disabled: false,
        }
    }

    fn example() -> Configuration {
        let mut private = Share::new("Privät", 1);
        private.access = Access::None;
        private.exceptions = vec![(1, Access::Write), (2, Access::Read)];
        private.hidden = true;
        private.encrypted = true;
        private.comment = "nur für uns".to_string();
        Configuration {
            host_name: "ATTIC".to_string(),
            identity: Some(*b"sixteen at large"),
            workgroup: "HOME".to_string(),
            signing: Policy::Offered,
            encryption: Policy::Required,
            blank_disks: BlankDisks::Single,
            workers: 12,
            ports: [
                PortConfiguration {
                    dhcp: false,
                    address: Some(StaticAddress {
                        address: [192, 168, 1, 2],
                        prefix_length: 24,
                        gateway: Some([192, 168, 1, 1]),
                    }),
                },
                PortConfiguration {
                    dhcp: true,
                    address: Some(StaticAddress { address: [10, 0, 0, 9], prefix_length: 8, gateway: None }),
                },
            ],
            users: vec![user(1, "ada"), user(2, "jürgen")],
            shares: vec![private, Share::new("data", 0)],
        }
    }

    #[test]
    fn loads_what_was_saved() {
        let mut flash = RamFlash::erased();
        let mut log = Log::open(&mut flash, CONFIGURATION).unwrap();
        assert_eq!(Configuration::load(&mut log), Ok(Configuration::default()));
        let example = example();
        assert_eq!(example.check(), Ok(()));
        example.save(&mut log).unwrap();
        let mut log = Log::open(&mut flash, CONFIGURATION).unwrap();
        assert_eq!(Configuration::load(&mut log), Ok(example));
    }

    #[test]
    fn saving_writes_only_what_changed() {
        let mut flash = RamFlash::erased();
        let mut log = Log::open(&mut flash, CONFIGURATION).unwrap();
        let mut example = example();
        example.save(&mut log).unwrap();
        let (before, _) = log.usage();
        example.save(&mut log).unwrap();
        assert_eq!(log.usage().0, before);
        example.users.remove(0);
        example.blank_disks = BlankDisks::Mirror;
        example.save(&mut log).unwrap();
        assert!(log.usage().0 - before < 100);
        assert_eq!(Configuration::load(&mut log), Ok(example));
    }

    #[test]
    fn nonsense_in_the_log_is_left_out() {
        let mut flash = RamFlash::erased();
        let mut log = Log::open(&mut flash, CONFIGURATION).unwrap();
        for (kind, key, value) in [
            (SETTING, &b"host-name"[..], &b"\xFF\xFE"[..]),
            (SETTING, b"workgroup", b""),
            (SETTING, b"identity", b"too short"),
            (SETTING, b"signing", b"\x09"),
            (SETTING, b"workers", b"\x40"),
            (SETTING, b"port0", b"\x01\x01\x0A"),
            (SETTING, b"port1", b"\x00\x01\x0A\x00\x00\x01\x21\x00\x00\x00\x00\x00"),
            (USER, b"short", b"\x00\x01\x00\x11"),
            (USER, b"../bad", &[0; 19]),
            (SHARE, b"cut", b"\x00\x00\x02\x00\x05\x00\x01\x02"),
            (SHARE, b"access", b"\x00\x00\x07\x00\x00"),
            (SHARE, b"IPC$", b"\x00\x00\x02\x00\x00"),
        ] {
            log.set(kind, key, value).unwrap();
        }
        let loaded = Configuration::load(&mut log).unwrap();
        let no_address = PortConfiguration { dhcp: false, address: None };
        let expected =
            Configuration { ports: [PortConfiguration::default(), no_address], ..Configuration::default() };
        assert_eq!(loaded, expected);
    }

    #[test]
    fn the_largest_configuration_fits() {
        let mut flash = RamFlash::erased();
        let mut log = Log::open(&mut flash, CONFIGURATION).unwrap();
        let users = (1..=USER_LIMIT)
            .map(|number| user(number as u16, &format!("name of the user {number:03}")))
            .collect();
        let shares = (0..SHARE_LIMIT).map(|number| Share {
            exceptions: (0..64).map(|number| (number, Access::Read)).collect(),
            comment: "c".repeat(COMMENT_LIMIT),
            ..Share::new(&format!("{number:060}"), 0)
        });
        let mut largest = Configuration { users, shares: shares.collect(), ..Configuration::default() };
        assert_eq!(largest.check(), Ok(()));
        // Many times over: compaction must always find room.
        for round in 0..40 {
            for share in &mut largest.shares {
                share.volume = round;
            }
            largest.save(&mut log).unwrap();
        }
        let mut log = Log::open(&mut flash, CONFIGURATION).unwrap();
        assert_eq!(Configuration::load(&mut log), Ok(largest));
    }

    #[test]
    fn names_are_checked() {
        assert!(
            valid_netbios_name("NAS-2")
                && !valid_netbios_name("a b")
                && !valid_netbios_name("SIXTEEN-LETTERS-")
        );
        assert!(
            valid_user_name("jürgen")
                && !valid_user_name("a/b")
                && !valid_user_name(" a")
                && !valid_user_name("..")
        );
        assert!(valid_share_name("data$") && !valid_share_name("ipc$") && !valid_share_name(""));
        let mut twice = example();
        twice.users = vec![user(1, "Ada"), user(2, "ADA")];
        assert!(twice.check().is_err());
        twice.users = vec![user(1, "Ada"), user(1, "Bob")];
        assert!(twice.check().is_err());
    }

    #[test]
    fn access_and_numbers() {
        let example = example();
        let private = example.share("PRIVÄT").unwrap();
        assert_eq!(
            [1, 2, 3].map(|number| private.access_of(number)),
            [Access::Write, Access::Read, Access::None]
        );
        assert_eq!(example.user("ADA").unwrap().number, 1);
        assert_eq!(example.next_user_number(), 3);
        assert_eq!(Configuration::default().next_user_number(), 1);
        let full =
            Configuration { users: vec![user(u16::MAX, "a"), user(1, "b")], ..Configuration::default() };
        assert_eq!(full.next_user_number(), 2);
    }
}
