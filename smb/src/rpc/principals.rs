//! Who has a security identifier here: the machine's accounts, and the few that every machine knows. Descriptors
//! (`fscc::SecurityDescriptor`) name nobody else.

use alloc::format;
use alloc::vec::Vec;

use super::Machine;
use crate::environment::UserId;
use crate::fscc::{Sid, equal_names};

/// Between a domain and a name.
const SEPARATOR: u16 = b'\\' as u16;

/// SID_NAME_USE (MS-LSAT 2.2.13).
pub(super) mod kind {
    pub const USER: u16 = 1;
    pub const GROUP: u16 = 2;
    pub const DOMAIN: u16 = 3;
    pub const ALIAS: u16 = 4;
    pub const WELL_KNOWN_GROUP: u16 = 5;
    pub const UNKNOWN: u16 = 8;
}

/// The group that all accounts of a machine without a domain have as their primary one, and its relative identifier.
pub(super) const NO_GROUP: (&str, u32) = ("None", 513);

/// The aliases of the domain BUILTIN.
pub(super) const ALIASES: [(&str, u32); 2] = [("Administrators", 544), ("Users", 545)];

/// Where a name belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    /// The machine's own accounts; the domain has the machine's name.
    Accounts,
    Builtin,
    /// S-1-1, which has no name.
    World,
}

impl Domain {
    pub const ALL: [Domain; 3] = [Domain::Accounts, Domain::Builtin, Domain::World];

    pub fn name(self, machine: &Machine) -> Vec<u16> {
        match self {
            Domain::Accounts => machine.name.clone(),
            Domain::Builtin => units("BUILTIN"),
            Domain::World => Vec::new(),
        }
    }

    pub fn sid(self, machine: &Machine) -> Sid {
        match self {
            Domain::Accounts => Sid::machine(machine.identifier),
            Domain::Builtin => Sid::BUILTIN,
            Domain::World => Sid::new(1, &[]),
        }
    }
}

/// The domains that have a name and can be opened.
pub(super) const DOMAINS: [Domain; 2] = [Domain::Accounts, Domain::Builtin];

/// A name, or a security identifier, and what was found for it.
pub(super) struct Principal {
    /// A number of `kind`.
    pub kind: u16,
    /// `None` when nobody can be it.
    pub domain: Option<Domain>,
    /// `None` for a domain itself, and for what is unknown.
    pub relative: Option<u32>,
    /// Of an unknown identifier, itself in digits.
    pub name: Vec<u16>,
}

impl Principal {
    pub fn unknown(name: Vec<u16>) -> Principal {
        Principal { kind: kind::UNKNOWN, domain: None, relative: None, name }
    }

    pub fn is_known(&self) -> bool {
        self.kind != kind::UNKNOWN
    }

    /// Its identifier, where it is known.
    pub fn sid(&self, machine: &Machine) -> Option<Sid> {
        let domain = self.domain.filter(|_| self.is_known())?.sid(machine);
        Some(self.relative.map_or(domain, |relative| domain.child(relative)))
    }
}

pub(super) fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

impl Machine {
    /// Calls `visit` with everybody in `domain`: kind, relative identifier, name.
    pub(super) fn members(&self, domain: Domain, visit: &mut dyn FnMut(u16, u32, &[u16])) {
        match domain {
            Domain::Accounts => {
                for account in &self.accounts {
                    visit(kind::USER, Sid::account_identifier(account.user.0), &account.name);
                }
                visit(kind::GROUP, NO_GROUP.1, &units(NO_GROUP.0));
            }
            Domain::Builtin => {
                for (name, relative) in ALIASES {
                    visit(kind::ALIAS, relative, &units(name));
                }
            }
            Domain::World => visit(kind::WELL_KNOWN_GROUP, 0, &units("Everyone")),
        }
    }

    /// The member of `domain` that `fits`.
    fn member(&self, domain: Domain, fits: &dyn Fn(u32, &[u16]) -> bool) -> Option<Principal> {
        let mut found = None;
        self.members(domain, &mut |kind, relative, name| {
            if found.is_none() && fits(relative, name) {
                found = Some(Principal {
                    kind,
                    domain: Some(domain),
                    relative: Some(relative),
                    name: name.to_vec(),
                });
            }
        });
        found
    }

    /// The member of `domain` with this relative identifier.
    pub(super) fn by_relative(&self, domain: Domain, relative: u32) -> Option<Principal> {
        self.member(domain, &|number, _| number == relative)
    }

    /// The member of `domain` with this name; case does not count.
    pub(super) fn by_name(&self, domain: Domain, wanted: &[u16]) -> Option<Principal> {
        self.member(domain, &|_, name| equal_names(name, wanted))
    }

    /// The account's own entry.
    pub(super) fn account(&self, user: UserId) -> Option<&super::AccountEntry> {
        self.accounts.iter().find(|account| account.user == user)
    }

    /// Who `sid` is.
    pub(super) fn by_sid(&self, sid: Sid) -> Principal {
        for domain in DOMAINS {
            if domain.sid(self) == sid {
                let name = domain.name(self);
                return Principal { kind: kind::DOMAIN, domain: Some(domain), relative: None, name };
            }
        }
        let parts = sid.split().and_then(|(parent, relative)| {
            let domain = Domain::ALL.into_iter().find(|domain| domain.sid(self) == parent)?;
            Some((domain, relative))
        });
        match parts {
            // Of a known domain: eight hexadecimal digits stand for the name, as Windows has it.
            Some((domain, relative)) => self.by_relative(domain, relative).unwrap_or_else(|| Principal {
                domain: Some(domain),
                ..Principal::unknown(units(&format!("{relative:08X}")))
            }),
            None => {
                let mut text = format!("S-1-{}", sid.authority());
                for number in sid.subauthorities() {
                    text.push_str(&format!("-{number}"));
                }
                Principal::unknown(units(&text))
            }
        }
    }

    /// Who `wanted` is: `name` or `domain\name`, or a domain. Names of the machine's accounts come first.
    pub(super) fn by_text(&self, wanted: &[u16]) -> Principal {
        let (qualifier, name) = match wanted.iter().position(|unit| *unit == SEPARATOR) {
            Some(at) => (wanted.get(..at), wanted.get(at + 1..).unwrap_or(&[])),
            None => (None, wanted),
        };
        let is = |domain: &Domain, text: &[u16]| equal_names(&domain.name(self), text);
        let found = Domain::ALL
            .into_iter()
            .filter(|domain| qualifier.is_none_or(|qualifier| is(domain, qualifier)))
            .find_map(|domain| self.by_name(domain, name));
        if let Some(found) = found {
            return found;
        }
        // `domain` or `domain\`.
        let text = if name.is_empty() { qualifier.unwrap_or(&[]) } else { name };
        let alone = qualifier.is_none() || name.is_empty();
        match DOMAINS.into_iter().find(|domain| alone && is(domain, text)) {
            Some(domain) => {
                Principal { kind: kind::DOMAIN, domain: Some(domain), relative: None, name: text.to_vec() }
            }
            None => Principal::unknown(wanted.to_vec()),
        }
    }
}
