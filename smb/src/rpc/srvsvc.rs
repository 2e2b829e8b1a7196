//! The server service (MS-SRVS): shares, the server itself, its clock.

use alloc::vec::Vec;

use super::ndr::{NdrReader, NdrWriter};
use super::{Call, Fault, Machine, ShareEntry};

/// NERR_NetNameNotFound.
const NAME_NOT_FOUND: u32 = 2310;
/// ERROR_INVALID_LEVEL.
const INVALID_LEVEL: u32 = 124;
/// STYPE_DISKTREE, STYPE_IPC and STYPE_SPECIAL.
const DISK: u32 = 0;
const PIPES: u32 = 3;
const SPECIAL: u32 = 0x8000_0000;
/// SV_TYPE_WORKSTATION, SV_TYPE_SERVER and SV_TYPE_SERVER_NT.
const SERVER_TYPE: u32 = 0x0000_9003;
/// PLATFORM_ID_NT.
const PLATFORM: u32 = 500;

pub(super) fn call(operation: u16, call: &mut Call<'_, '_>) -> Result<(), Fault> {
    let Call { arguments, machine, out, .. } = call;
    match operation {
        15 | 36 => enumerate_shares(arguments, machine, out),
        16 => share_information(arguments, machine, out),
        21 => server_information(arguments, machine, out),
        28 => time_of_day(machine, out),
        _ => Err(Fault::OPERATION),
    }
}

/// One SHARE_INFO structure; its strings are deferred. False when the level is not known.
fn emit_share(out: &mut NdrWriter, level: u32, share: &ShareEntry) -> bool {
    if !matches!(level, 0 | 1 | 2 | 501 | 502) {
        return false;
    }
    out.string_pointer(&share.name);
    if level == 0 {
        return true;
    }
    let special = if share.hidden { SPECIAL } else { 0 };
    out.u32(if share.pipes { PIPES | SPECIAL } else { DISK | special });
    out.string_pointer(&share.remark);
    match level {
        501 => out.u32(0),
        2 | 502 => {
            // Permissions are for share-level security; uses without limit; no user known here.
            out.u32(0);
            out.u32(u32::MAX);
            out.u32(0);
            let path: Vec<u16> = "C:\\".encode_utf16().chain(share.name.iter().copied()).collect();
            out.string_pointer(&path);
            out.u32(0);
            if level == 502 {
                out.u32(0);
                out.u32(0);
            }
        }
        _ => {}
    }
    true
}

/// NetrShareEnum and NetrShareEnumSticky (3.1.4.8).
fn enumerate_shares(
    arguments: &mut NdrReader<'_>,
    machine: &Machine,
    out: &mut NdrWriter,
) -> Result<(), Fault> {
    arguments.unique_string()?;
    let level = arguments.u32()?;
    let discriminant = arguments.u32()?;
    if level != discriminant {
        return Err(Fault::STUB);
    }
    let shown: Vec<&ShareEntry> =
        machine.shares.iter().filter(|share| !share.hidden || share.pipes).collect();
    out.u32(level);
    out.u32(level);
    out.referent();
    if !matches!(level, 0 | 1 | 2 | 501 | 502) {
        out.u32(0);
        out.u32(0);
        out.u32(0);
        out.u32(0);
        out.u32(INVALID_LEVEL);
        return Ok(());
    }
    out.u32(shown.len() as u32);
    out.referent();
    out.u32(shown.len() as u32);
    for share in &shown {
        emit_share(out, level, share);
    }
    out.flush();
    out.u32(shown.len() as u32);
    // No resume handle: all has been told.
    out.u32(0);
    out.u32(0);
    Ok(())
}

/// NetrShareGetInfo (3.1.4.10).
fn share_information(
    arguments: &mut NdrReader<'_>,
    machine: &Machine,
    out: &mut NdrWriter,
) -> Result<(), Fault> {
    arguments.unique_string()?;
    let name = arguments.string()?;
    let level = arguments.u32()?;
    let found = machine.shares.iter().find(|share| crate::fscc::equal_names(&share.name, &name));
    out.u32(level);
    let status = match found {
        None => NAME_NOT_FOUND,
        Some(_) if !matches!(level, 0 | 1 | 2 | 501 | 502) => INVALID_LEVEL,
        Some(share) => {
            out.referent();
            emit_share(out, level, share);
            out.flush();
            out.u32(0);
            return Ok(());
        }
    };
    out.u32(0);
    out.u32(status);
    Ok(())
}

/// NetrServerGetInfo (3.1.4.17).
fn server_information(
    arguments: &mut NdrReader<'_>,
    machine: &Machine,
    out: &mut NdrWriter,
) -> Result<(), Fault> {
    arguments.unique_string()?;
    let level = arguments.u32()?;
    out.u32(level);
    if !(100..=102).contains(&level) {
        out.u32(0);
        out.u32(INVALID_LEVEL);
        return Ok(());
    }
    out.referent();
    out.u32(PLATFORM);
    out.string_pointer(&machine.name);
    if level >= 101 {
        out.u32(6);
        out.u32(1);
        out.u32(SERVER_TYPE);
        out.string_pointer(&[]);
    }
    if level == 102 {
        // Users without limit, never disconnected, visible; announced every four minutes.
        out.u32(u32::MAX);
        out.u32(u32::MAX);
        out.u32(0);
        out.u32(240);
        out.u32(3000);
        out.u32(0);
        out.string_pointer(&[]);
    }
    out.flush();
    out.u32(0);
    Ok(())
}

/// NetrRemoteTOD (3.1.4.27), in universal time.
fn time_of_day(machine: &Machine, out: &mut NdrWriter) -> Result<(), Fault> {
    let (seconds, hundredths) = machine.time;
    let days = seconds.div_euclid(86_400);
    let rest = seconds.rem_euclid(86_400) as u32;
    let (year, month, day) = civil(days);
    out.referent();
    out.u32(seconds as u32);
    out.u32((seconds.wrapping_mul(1000)) as u32);
    out.u32(rest / 3600);
    out.u32(rest / 60 % 60);
    out.u32(rest % 60);
    out.u32(hundredths);
    out.u32(0);
    out.u32(310);
    out.u32(day);
    out.u32(month);
    out.u32(year);
    // 1970-01-01 was a Thursday.
    out.u32((days + 4).rem_euclid(7) as u32);
    out.u32(0);
    Ok(())
}

/// Year, month and day of a day counted from 1970-01-01: years begin in March, so that leap days come last.
fn civil(days: i64) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_779), (2026, 11, 22));
    }
}
