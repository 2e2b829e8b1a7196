//! What a target is (INQUIRY), and the scan for the disks of a channel.

use super::super::{OWN_IDENTITY, Outcome, TARGETS};
use super::execution::TIMEOUT_SHORT;
use super::operation_code::INQUIRY;
use super::recovery::{Doubt, Patience, Verdict, judge};
use super::{Data, DiskError, Request, Transport};
use alloc::string::String;
use alloc::vec::Vec;

/// What INQUIRY says of a disk, blanks trimmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// Firmware revision.
    pub revision: String,
    /// Unit serial number (vital product data page 0x80); empty where the disk has none.
    pub serial: String,
    /// Whether the disk queues tagged commands.
    pub queues: bool,
}

/// INQUIRY and the serial number. Untagged: whether the target knows tags is part of the answer.
pub(super) fn inquire<T: Transport>(transport: &T, target: u8) -> Result<Identity, DiskError> {
    let mut answer = [0u8; 36];
    inquiry(transport, target, [0, 0], &mut answer)?;
    // Peripheral qualifier 0 and device type 0: a direct access device, and it is there.
    if answer[0] == 0x7F {
        return Err(DiskError::Gone);
    }
    if answer[0] != 0 {
        return Err(DiskError::Unsupported);
    }
    let mut page = [0u8; 64];
    const UNIT_SERIAL_NUMBER: u8 = 0x80;
    const VITAL_PRODUCT_DATA: u8 = 1;
    let serial = match inquiry(transport, target, [VITAL_PRODUCT_DATA, UNIT_SERIAL_NUMBER], &mut page) {
        Ok(length) if length >= 4 && page[1] == UNIT_SERIAL_NUMBER => {
            let end = (4 + usize::from(page[3])).min(length as usize).min(page.len());
            text(&page[4..end])
        }
        Ok(_) | Err(DiskError::Unsupported) => String::new(),
        Err(error) => return Err(error),
    };
    Ok(Identity {
        vendor: text(&answer[8..16]),
        product: text(&answer[16..32]),
        revision: text(&answer[32..36]),
        serial,
        queues: answer[7] & 0x02 != 0,
    })
}

fn inquiry<T: Transport>(
    transport: &T,
    target: u8,
    page: [u8; 2],
    answer: &mut [u8],
) -> Result<u32, DiskError> {
    let descriptor = [INQUIRY, page[0], page[1], 0, answer.len() as u8, 0];
    let mut patience = Patience::new();
    // INQUIRY itself reports no unit attention: there is nobody to tell of a doubt.
    let doubt = Doubt::default();
    loop {
        let length = answer.len() as u64;
        let mut pieces = [&mut *answer];
        let request = Request {
            target,
            descriptor: &descriptor,
            data: Data::FromTarget(&mut pieces),
            tagged: false,
            exclusive: patience.exclusive,
            timeout_milliseconds: TIMEOUT_SHORT,
        };
        let outcome = transport.execute(request, &mut || ());
        // An absent target is no reason to ask again.
        if outcome == Outcome::SelectionTimeOut {
            return Err(DiskError::Gone);
        }
        match judge(outcome, length, &mut patience, &doubt) {
            Verdict::Done(moved) => return Ok(moved),
            Verdict::Again | Verdict::Start => {}
            Verdict::AgainAfter(milliseconds) => transport.pause(milliseconds),
            Verdict::Failed(error) => return Err(error),
        }
    }
}

/// Printable ASCII of a fixed-width field, blanks trimmed.
fn text(field: &[u8]) -> String {
    let text: String = field
        .iter()
        .map(|byte| match byte {
            0x20..=0x7E => char::from(*byte),
            _ => ' ',
        })
        .collect();
    String::from(text.trim())
}

/// Asks every target of a channel what it is; returns the targets that are disks.
pub fn scan<T: Transport>(transport: &T) -> Vec<(u8, Identity)> {
    let mut found = Vec::new();
    for target in (0..TARGETS).filter(|target| *target != OWN_IDENTITY) {
        match inquire(transport, target) {
            Ok(identity) => found.push((target, identity)),
            Err(DiskError::Gone) => {}
            Err(error) => log::warn!("target {target}: {error}"),
        }
    }
    found
}
