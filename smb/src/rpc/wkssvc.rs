//! The workstation service (MS-WKST): the machine's name and workgroup.

use super::{Call, Fault};

/// ERROR_INVALID_LEVEL.
const INVALID_LEVEL: u32 = 124;
/// PLATFORM_ID_NT.
const PLATFORM: u32 = 500;

pub(super) fn call(operation: u16, call: &mut Call<'_, '_>) -> Result<(), Fault> {
    if operation != 0 {
        return Err(Fault::OPERATION);
    }
    let Call { arguments, machine, out, .. } = call;
    // NetrWkstaGetInfo (3.2.4.1).
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
    out.string_pointer(&machine.workgroup);
    out.u32(6);
    out.u32(1);
    if level >= 101 {
        out.string_pointer(&[]);
    }
    if level == 102 {
        out.u32(0);
    }
    out.flush();
    out.u32(0);
    Ok(())
}
