//! The workstation service (MS-WKST): the machine's name and workgroup.

use alloc::vec::Vec;

use super::ndr::{NdrReader, NdrWriter};
use super::{Fault, Machine};

/// ERROR_INVALID_LEVEL.
const INVALID_LEVEL: u32 = 124;
/// PLATFORM_ID_NT.
const PLATFORM: u32 = 500;

pub(super) fn call(operation: u16, stub: &[u8], machine: &Machine) -> Result<Vec<u8>, Fault> {
    if operation != 0 {
        return Err(Fault::Operation);
    }
    // NetrWkstaGetInfo (3.2.4.1).
    let mut arguments = NdrReader::new(stub);
    arguments.unique_string()?;
    let level = arguments.u32()?;
    let mut out = NdrWriter::new();
    out.u32(level);
    if !(100..=102).contains(&level) {
        out.u32(0);
        out.u32(INVALID_LEVEL);
        return Ok(out.bytes);
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
    Ok(out.bytes)
}
