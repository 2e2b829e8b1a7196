//! The account database (MS-SAMR), to be looked at only: the domains, who is in them, what an account is like.

use alloc::vec::Vec;

use super::handles::Object;
use super::ndr::NdrWriter;
use super::principals::{DOMAINS, Domain, NO_GROUP, kind};
use super::{AccountEntry, Call, Fault, Machine};
use crate::environment::UserId;
use crate::fscc::{Sid, equal_names};
use crate::status::NtStatus;

/// STATUS_NO_SUCH_DOMAIN.
const NO_SUCH_DOMAIN: NtStatus = NtStatus(0xC000_00DF);
/// STATUS_SOME_NOT_MAPPED.
const SOME_NOT_MAPPED: NtStatus = NtStatus(0x0000_0107);
/// Names or identifiers of one look-up (MS-SAMR 3.1.5.11).
const MAXIMUM_LOOK_UPS: u32 = 1000;
/// USER_NORMAL_ACCOUNT, USER_ACCOUNT_DISABLED, USER_DONT_EXPIRE_PASSWORD.
const NORMAL: u32 = 0x10;
const DISABLED: u32 = 0x01;
const NO_EXPIRY: u32 = 0x200;
/// SE_GROUP_MANDATORY, -ENABLED_BY_DEFAULT, -ENABLED.
const GROUP_ATTRIBUTES: u32 = 7;
/// A time that never comes, in two halves.
const NEVER: [u32; 2] = [u32::MAX, 0x7FFF_FFFF];

pub(super) fn call(operation: u16, call: &mut Call<'_, '_>) -> Result<(), Fault> {
    match operation {
        1 => return call.close(),
        // SamrConnect, -2, -4.
        0 | 57 | 62 => {
            let status = call.open(Object::Accounts);
            call.out.status(status);
        }
        // SamrConnect5: version 1, revision 3, nothing more.
        64 => {
            call.out.u32s(&[1, 1, 3, 0]);
            let status = call.open(Object::Accounts);
            call.out.status(status);
        }
        5 => look_up_domain(call)?,
        6 => domains(call)?,
        7 => open_domain(call)?,
        8 | 46 => domain_information(call)?,
        11 => members(call, kind::GROUP)?,
        13 => members(call, kind::USER)?,
        15 => members(call, kind::ALIAS)?,
        17 => names(call)?,
        18 => identifiers(call)?,
        34 => open_user(call)?,
        36 | 47 => user_information(call)?,
        39 => groups_of_user(call)?,
        _ => return Err(Fault::OPERATION),
    }
    Ok(())
}

impl Call<'_, '_> {
    /// The first argument, which must be a handle of SamrConnect.
    fn accounts_handle(&mut self) -> Result<(), Fault> {
        match self.handles.find(&self.arguments.handle()?)? {
            Object::Accounts => Ok(()),
            _ => Err(Fault::CONTEXT),
        }
    }

    /// The first argument, which must be a domain's handle.
    fn domain_handle(&mut self) -> Result<Domain, Fault> {
        match self.handles.find(&self.arguments.handle()?)? {
            Object::Domain(domain) => Ok(domain),
            _ => Err(Fault::CONTEXT),
        }
    }

    /// The first argument, which must be an account's handle; the account may be gone.
    fn user_handle(&mut self) -> Result<Option<&AccountEntry>, Fault> {
        match self.handles.find(&self.arguments.handle()?)? {
            Object::User(relative) => Ok(find_user(self.machine, relative)),
            _ => Err(Fault::CONTEXT),
        }
    }

    /// A pointer that is null, and a status.
    fn nothing(&mut self, status: NtStatus) {
        self.out.u32(0);
        self.out.status(status);
    }
}

fn find_user(machine: &Machine, relative: u32) -> Option<&AccountEntry> {
    let number = relative.checked_sub(Sid::account_identifier(0))?;
    machine.account(UserId(u16::try_from(number).ok()?))
}

/// SamrLookupDomainInSamServer (3.1.5.11.1).
fn look_up_domain(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    call.accounts_handle()?;
    let wanted = call.arguments.unicode_strings(1)?;
    let wanted = wanted.first().ok_or(Fault::STUB)?;
    let found = DOMAINS.into_iter().find(|domain| equal_names(&domain.name(call.machine), wanted));
    call.out.sid_pointer(found.map(|domain| domain.sid(call.machine)));
    call.out.flush();
    call.out.status(if found.is_some() { NtStatus::SUCCESS } else { NO_SUCH_DOMAIN });
    Ok(())
}

/// SamrEnumerateDomainsInSamServer (3.1.5.2.1).
fn domains(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    call.accounts_handle()?;
    let resumed = call.arguments.u32()?;
    let all: Vec<_> = DOMAINS.map(|domain| (0, domain.name(call.machine))).into();
    enumerate(&all, resumed, call.out);
    Ok(())
}

/// The enumerations answer alike: all that there is from `resumed` on. There never is so much that it must be parted.
fn enumerate(all: &[(u32, Vec<u16>)], resumed: u32, out: &mut NdrWriter) {
    let rest = all.get(resumed as usize..).unwrap_or(&[]);
    out.u32(all.len() as u32);
    out.referent();
    if out.counted(rest.len()) {
        for (relative, name) in rest {
            out.u32(*relative);
            out.unicode_string(name);
        }
        out.flush();
    }
    out.u32(rest.len() as u32);
    out.status(NtStatus::SUCCESS);
}

/// SamrOpenDomain (3.1.5.1.5).
fn open_domain(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    call.accounts_handle()?;
    call.arguments.u32()?;
    let wanted = call.arguments.sid()?;
    let found = DOMAINS.into_iter().find(|domain| domain.sid(call.machine) == wanted);
    let status = call.open_found(found.map(Object::Domain), NO_SUCH_DOMAIN);
    call.out.status(status);
    Ok(())
}

/// SamrQueryInformationDomain and -2 (3.1.5.5.1): general, name, role.
fn domain_information(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    let domain = call.domain_handle()?;
    let class = call.arguments.u16()?;
    if !matches!(class, 2 | 5 | 7) {
        call.nothing(NtStatus::INVALID_INFO_CLASS);
        return Ok(());
    }
    let out = &mut *call.out;
    out.referent();
    out.u16(class);
    match class {
        2 => {
            let (mut users, mut groups, mut aliases) = (0, 0, 0);
            call.machine.members(domain, &mut |member, _, _| match member {
                kind::USER => users += 1,
                kind::GROUP => groups += 1,
                _ => aliases += 1,
            });
            // Nobody is logged off by force: the shortest of times, which are negative.
            out.u32s(&[0, 0x8000_0000]);
            out.unicode_string(&[]);
            out.unicode_string(&domain.name(call.machine));
            out.unicode_string(&[]);
            // Modified count; enabled, primary.
            out.u32s(&[0, 0, 1, 3]);
            out.u8(1);
            out.u32s(&[users, groups, aliases]);
        }
        5 => out.unicode_string(&domain.name(call.machine)),
        _ => out.u16(3),
    }
    out.flush();
    out.status(NtStatus::SUCCESS);
    Ok(())
}

/// SamrEnumerateUsersInDomain and its like for groups and aliases (3.1.5.2.3 to 3.1.5.2.5).
fn members(call: &mut Call<'_, '_>, wanted: u16) -> Result<(), Fault> {
    let domain = call.domain_handle()?;
    let resumed = call.arguments.u32()?;
    let mut all = Vec::new();
    call.machine.members(domain, &mut |kind, relative, name| {
        if kind == wanted {
            all.push((relative, name.to_vec()));
        }
    });
    enumerate(&all, resumed, call.out);
    Ok(())
}

/// How many names or identifiers are asked for: the count is there beside the array's own.
fn looked_up(call: &mut Call<'_, '_>) -> Result<u32, Fault> {
    let count = call.arguments.u32()?;
    if count > MAXIMUM_LOOK_UPS || call.arguments.varying()? != count {
        return Err(Fault::STUB);
    }
    Ok(count)
}

fn mapped(known: usize, all: usize) -> NtStatus {
    match known {
        0 => NtStatus::NONE_MAPPED,
        _ if known < all => SOME_NOT_MAPPED,
        _ => NtStatus::SUCCESS,
    }
}

/// SamrLookupNamesInDomain (3.1.5.11.2).
fn names(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    let domain = call.domain_handle()?;
    let count = looked_up(call)?;
    let wanted = call.arguments.unicode_strings(count)?;
    let found: Vec<_> = wanted.iter().map(|name| call.machine.by_name(domain, name)).collect();
    let numbers = |pick: &dyn Fn(&super::principals::Principal) -> u32, other: u32| -> Vec<u32> {
        found.iter().map(|found| found.as_ref().map_or(other, pick)).collect()
    };
    for list in [
        numbers(&|principal| principal.relative.unwrap_or(0), 0),
        numbers(&|principal| principal.kind.into(), kind::UNKNOWN.into()),
    ] {
        if call.out.counted(list.len()) {
            call.out.u32s(&list);
        }
    }
    call.out.status(mapped(found.iter().flatten().count(), found.len()));
    Ok(())
}

/// SamrLookupIdsInDomain (3.1.5.11.3).
fn identifiers(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    let domain = call.domain_handle()?;
    let count = looked_up(call)?;
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(call.machine.by_relative(domain, call.arguments.u32()?));
    }
    if call.out.counted(found.len()) {
        for principal in &found {
            call.out.unicode_string(principal.as_ref().map_or(&[], |principal| &principal.name));
        }
        call.out.flush();
    }
    if call.out.counted(found.len()) {
        for principal in &found {
            call.out.u32(principal.as_ref().map_or(kind::UNKNOWN, |principal| principal.kind).into());
        }
    }
    call.out.status(mapped(found.iter().flatten().count(), found.len()));
    Ok(())
}

/// SamrOpenUser (3.1.5.1.9).
fn open_user(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    let domain = call.domain_handle()?;
    call.arguments.u32()?;
    let relative = call.arguments.u32()?;
    let found = find_user(call.machine, relative).filter(|_| domain == Domain::Accounts);
    let status = call.open_found(found.map(|_| Object::User(relative)), NtStatus::NO_SUCH_USER);
    call.out.status(status);
    Ok(())
}

/// SamrQueryInformationUser and -2 (3.1.5.5.5): the name, the flags, or everything.
fn user_information(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    let Some(account) = call.user_handle()?.cloned() else {
        call.nothing(NtStatus::NO_SUCH_USER);
        return Ok(());
    };
    let class = call.arguments.u16()?;
    if !matches!(class, 7 | 9 | 16 | 21) {
        call.nothing(NtStatus::INVALID_INFO_CLASS);
        return Ok(());
    }
    let out = &mut *call.out;
    let control = NORMAL | NO_EXPIRY | if account.disabled { DISABLED } else { 0 };
    out.referent();
    out.u16(class);
    match class {
        7 => out.unicode_string(&account.name),
        9 => out.u32(NO_GROUP.1),
        16 => out.u32(control),
        _ => {
            // Log-on, log-off, password set: not known. Neither account nor password ends.
            out.u32s(&[0; 6]);
            out.u32s(&NEVER);
            out.u32s(&[0; 2]);
            out.u32s(&NEVER);
            out.unicode_string(&account.name);
            // Full name, home, its drive, script, profile, comments, workstations, parameters; two password hashes;
            // private data.
            for _ in 0..12 {
                out.u32s(&[0, 0]);
            }
            // Security descriptor.
            out.u32s(&[0, 0]);
            out.u32s(&[Sid::account_identifier(account.user.0), NO_GROUP.1, control]);
            // The fields that are told: names, identifiers, control.
            out.u32(0x0010_000D);
            // Hours, counts, country, code page, flags.
            out.u32s(&[0, 0, 0, 0, 0]);
        }
    }
    out.flush();
    out.status(NtStatus::SUCCESS);
    Ok(())
}

/// SamrGetGroupsForUser (3.1.5.9.1).
fn groups_of_user(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    if call.user_handle()?.is_none() {
        call.nothing(NtStatus::NO_SUCH_USER);
        return Ok(());
    }
    call.out.referent();
    call.out.counted(1);
    call.out.u32s(&[NO_GROUP.1, GROUP_ATTRIBUTES]);
    call.out.status(NtStatus::SUCCESS);
    Ok(())
}
