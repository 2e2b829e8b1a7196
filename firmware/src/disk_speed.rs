//! How fast a disk is read, by the way that the cache reads it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use storage::{BlockDevice, Command, DeviceError};

use crate::scheduler;

/// Bytes of a command and how many are in flight at once.
const PATTERNS: [(usize, usize); 4] = [(1 << 20, 4), (1 << 20, 1), (64 << 10, 4), (4 << 10, 1)];
/// Microseconds that each pattern is tried.
const TIME: u64 = 500_000;

/// Reads the disk from its start in several ways.
pub fn measure(device: &dyn BlockDevice) -> Result<Vec<console::DiskSpeed>, String> {
    PATTERNS.iter().map(|&(bytes, at_once)| try_one(device, bytes, at_once)).collect()
}

fn try_one(device: &dyn BlockDevice, bytes: usize, at_once: usize) -> Result<console::DiskSpeed, String> {
    let mut buffers = Vec::new();
    for _ in 0..at_once {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(bytes).map_err(|_| String::from("no memory"))?;
        buffer.resize(bytes, 0);
        buffers.push(buffer);
    }
    let step = bytes as u64 / u64::from(device.block_size());
    let round = step * at_once as u64;
    if round == 0 || device.blocks() < round {
        return Err(String::from("the disk is too small"));
    }
    let (start, mut block, mut commands) = (scheduler::now(), 0, 0);
    let mut spent = 0;
    while spent < TIME {
        if block + round > device.blocks() {
            block = 0;
        }
        read_at_once(device, block, step, &mut buffers).map_err(|error| error.to_string())?;
        block += round;
        commands += at_once as u64;
        spent = scheduler::now() - start;
    }
    Ok(console::DiskSpeed { bytes, at_once, commands, microseconds: spent })
}

/// Reads neighbouring pieces, a command each, all in flight together.
fn read_at_once(
    device: &dyn BlockDevice,
    block: u64,
    step: u64,
    buffers: &mut [Vec<u8>],
) -> Result<(), DeviceError> {
    let Some((first, rest)) = buffers.split_first_mut() else { return Ok(()) };
    let mut others = Ok(());
    let mut pieces = [&mut first[..]];
    let command = Command::Read { block, buffers: &mut pieces };
    let result = device.execute(command, &mut || others = read_at_once(device, block + step, step, rest));
    result.and(others)
}
