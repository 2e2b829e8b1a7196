//! The local security authority (MS-LSAD, MS-LSAT): what the machine and its domains are called, and which name is
//! which security identifier. Nothing can be changed.

use alloc::vec::Vec;

use super::handles::{Handles, Object};
use super::ndr::{NdrReader, NdrWriter};
use super::principals::{Domain, Principal};
use super::{Call, Fault, Machine};
use crate::fscc::Sid;
use crate::status::NtStatus;

/// STATUS_SOME_NOT_MAPPED.
const SOME_NOT_MAPPED: NtStatus = NtStatus(0x0000_0107);
/// Names or identifiers of one look-up.
const MAXIMUM_LOOK_UPS: u32 = 1024;
/// PolicyServerRolePrimary.
const PRIMARY: u16 = 3;

/// What an answer about names has for each of them: the versions of an operation differ in little else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// LSA_TRANSLATED_SID.
    Relative,
    /// LSAPR_TRANSLATED_SID_EX.
    RelativeFlags,
    /// LSAPR_TRANSLATED_SID_EX2.
    SidFlags,
    /// LSAPR_TRANSLATED_NAME.
    Name,
    /// LSAPR_TRANSLATED_NAME_EX.
    NameFlags,
}

pub(super) fn call(operation: u16, call: &mut Call<'_, '_>) -> Result<(), Fault> {
    match operation {
        0 => return call.close(),
        // LsarOpenPolicy, LsarOpenPolicy2: whoever may open the pipe may look names up.
        6 | 44 => {
            let status = call.open(Object::Policy);
            call.out.status(status);
        }
        7 | 46 => {
            policy(call.arguments, call.handles)?;
            information(call.arguments, call.machine, call.out)?;
        }
        // LsarEnumerateAccounts, LsarEnumerateTrustedDomains, -Ex: no account has privileges, no domain is trusted.
        11 | 13 | 50 => {
            policy(call.arguments, call.handles)?;
            call.out.u32s(&[0, 0, 0]);
            call.out.status(NtStatus::NO_MORE_ENTRIES);
        }
        14 => names(call, Shape::Relative)?,
        58 => names(call, Shape::RelativeFlags)?,
        68 => names(call, Shape::SidFlags)?,
        15 => identifiers(call, Shape::Name)?,
        57 => identifiers(call, Shape::NameFlags)?,
        45 => user_name(call)?,
        _ => return Err(Fault::OPERATION),
    }
    Ok(())
}

/// The handle that comes first, which must be one of LsarOpenPolicy's.
fn policy(arguments: &mut NdrReader<'_>, handles: &Handles) -> Result<(), Fault> {
    match handles.find(&arguments.handle()?)? {
        Object::Policy => Ok(()),
        _ => Err(Fault::CONTEXT),
    }
}

/// LsarQueryInformationPolicy and -2 (MS-LSAD 3.1.4.4.4).
fn information(arguments: &mut NdrReader<'_>, machine: &Machine, out: &mut NdrWriter) -> Result<(), Fault> {
    let class = arguments.u16()?;
    if !matches!(class, 3 | 5 | 6 | 12) {
        out.u32(0);
        out.status(NtStatus::INVALID_PARAMETER);
        return Ok(());
    }
    out.referent();
    out.u16(class);
    match class {
        // The primary domain of a machine that has joined none is its workgroup, without an identifier.
        3 => {
            out.unicode_string(&machine.workgroup);
            out.sid_pointer(None);
        }
        5 => {
            out.unicode_string(&machine.name);
            out.sid_pointer(Some(Sid::machine(machine.identifier)));
        }
        6 => out.u16(PRIMARY),
        _ => {
            out.unicode_string(&machine.workgroup);
            out.unicode_string(&[]);
            out.unicode_string(&[]);
            // No GUID, no identifier.
            out.u32s(&[0; 5]);
        }
    }
    out.flush();
    out.status(NtStatus::SUCCESS);
    Ok(())
}

/// LsarLookupNames to LsarLookupNames3 (MS-LSAT 3.1.4.5 to 3.1.4.8).
fn names(call: &mut Call<'_, '_>, shape: Shape) -> Result<(), Fault> {
    policy(call.arguments, call.handles)?;
    let count = call.arguments.u32()?;
    if count > MAXIMUM_LOOK_UPS {
        return Err(Fault::STUB);
    }
    call.arguments.conformance(count)?;
    let wanted = call.arguments.unicode_strings(count)?;
    let found: Vec<_> = wanted.iter().map(|name| call.machine.by_text(name)).collect();
    answer(&found, shape, call.machine, call.out);
    Ok(())
}

/// LsarLookupSids and LsarLookupSids2 (MS-LSAT 3.1.4.10, 3.1.4.11).
fn identifiers(call: &mut Call<'_, '_>, shape: Shape) -> Result<(), Fault> {
    policy(call.arguments, call.handles)?;
    let count = call.arguments.u32()?;
    if count > MAXIMUM_LOOK_UPS {
        return Err(Fault::STUB);
    }
    let mut found = Vec::new();
    if call.arguments.u32()? != 0 {
        call.arguments.conformance(count)?;
        for _ in 0..count {
            if call.arguments.u32()? == 0 {
                return Err(Fault::STUB);
            }
        }
        for _ in 0..count {
            found.push(call.machine.by_sid(call.arguments.sid()?));
        }
    }
    answer(&found, shape, call.machine, call.out);
    Ok(())
}

/// The domains that were met, an entry for each name, how many are known.
fn answer(found: &[Principal], shape: Shape, machine: &Machine, out: &mut NdrWriter) {
    let mut domains: Vec<Domain> = Vec::new();
    for domain in found.iter().filter_map(|principal| principal.domain) {
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    out.referent();
    let some = {
        out.u32(domains.len() as u32);
        if domains.is_empty() {
            out.u32(0);
        } else {
            out.referent();
        }
        // MaxEntries is not used.
        out.u32(0);
        !domains.is_empty()
    };
    if some {
        out.u32(domains.len() as u32);
        for domain in &domains {
            out.unicode_string(&domain.name(machine));
            out.sid_pointer(Some(domain.sid(machine)));
        }
        out.flush();
    }
    if out.counted(found.len()) {
        for principal in found {
            let index = domains.iter().position(|domain| Some(*domain) == principal.domain);
            out.u16(principal.kind);
            match shape {
                Shape::Relative | Shape::RelativeFlags => {
                    let known = principal.is_known();
                    out.u32(if known { principal.relative.unwrap_or(u32::MAX) } else { 0 });
                }
                Shape::SidFlags => out.sid_pointer(principal.sid(machine)),
                Shape::Name | Shape::NameFlags => out.unicode_string(&principal.name),
            }
            out.u32(index.map_or(u32::MAX, |index| index as u32));
            if !matches!(shape, Shape::Relative | Shape::Name) {
                out.u32(0);
            }
        }
        out.flush();
    }
    let known = found.iter().filter(|principal| principal.is_known()).count();
    out.u32(known as u32);
    out.status(match known {
        0 => NtStatus::NONE_MAPPED,
        _ if known < found.len() => SOME_NOT_MAPPED,
        _ => NtStatus::SUCCESS,
    });
}

/// LsarGetUserName (MS-LSAT 3.1.4.2): who the caller is, and of which domain where that is asked, too.
fn user_name(call: &mut Call<'_, '_>) -> Result<(), Fault> {
    let arguments = &mut *call.arguments;
    arguments.unique_string()?;
    if arguments.u32()? != 0 && arguments.unicode_header()? {
        arguments.string()?;
    }
    let with_domain = arguments.u32()? != 0;
    let account = call.machine.account(call.caller);
    let out = &mut *call.out;
    match account {
        Some(account) => {
            out.referent();
            out.unicode_string(&account.name);
            out.flush();
        }
        None => out.u32(0),
    }
    if with_domain {
        out.referent();
        match account {
            Some(_) => {
                out.referent();
                out.unicode_string(&call.machine.name);
                out.flush();
            }
            None => out.u32(0),
        }
    } else {
        out.u32(0);
    }
    out.status(if account.is_some() { NtStatus::SUCCESS } else { NtStatus::NO_SUCH_USER });
    Ok(())
}
