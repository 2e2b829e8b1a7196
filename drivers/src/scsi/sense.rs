//! Sense data: what a target says about a failed command (SPC-3, 4.5).

/// The broad kind of a failure (SPC-3, table 27).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SenseKey {
    /// Nothing to say.
    NoSense,
    /// Done, with the help of error recovery.
    RecoveredError,
    /// Not ready, for example without a medium or still spinning up.
    NotReady,
    /// The medium is bad here.
    MediumError,
    /// The device is bad.
    HardwareError,
    /// The command was wrong.
    IllegalRequest,
    /// Something happened since the last command: power on, reset, another medium.
    UnitAttention,
    /// Write protection.
    DataProtect,
    /// The target aborted the command.
    AbortedCommand,
    /// Any other key.
    Other(u8),
}

/// The first bytes of a target's sense data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    bytes: [u8; Self::BYTES],
    length: u8,
}

impl Sense {
    /// Bytes that are kept: the fixed format whole, and the descriptor format's first descriptor.
    pub const BYTES: usize = 32;

    /// Keeps the first bytes of `bytes`.
    pub fn new(bytes: &[u8]) -> Sense {
        let length = bytes.len().min(Self::BYTES);
        let mut kept = [0; Self::BYTES];
        kept[..length].copy_from_slice(&bytes[..length]);
        Sense { bytes: kept, length: length as u8 }
    }

    /// The bytes as received, at most [`BYTES`](Self::BYTES).
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn descriptor_format(&self) -> bool {
        matches!(self.bytes[0] & 0x7F, 0x72 | 0x73)
    }

    /// The sense key.
    pub fn key(&self) -> SenseKey {
        let key = if self.descriptor_format() { self.bytes[1] } else { self.bytes[2] };
        match key & 0x0F {
            0x0 => SenseKey::NoSense,
            0x1 => SenseKey::RecoveredError,
            0x2 => SenseKey::NotReady,
            0x3 => SenseKey::MediumError,
            0x4 => SenseKey::HardwareError,
            0x5 => SenseKey::IllegalRequest,
            0x6 => SenseKey::UnitAttention,
            0x7 => SenseKey::DataProtect,
            0xB => SenseKey::AbortedCommand,
            other => SenseKey::Other(other),
        }
    }

    /// Additional sense code and its qualifier.
    pub fn additional(&self) -> (u8, u8) {
        if self.descriptor_format() {
            (self.bytes[2], self.bytes[3])
        } else if self.length >= 14 {
            (self.bytes[12], self.bytes[13])
        } else {
            (0, 0)
        }
    }

    /// The first bad block, where the target names it.
    pub fn block(&self) -> Option<u64> {
        const VALID: u8 = 0x80;
        if self.descriptor_format() {
            // Descriptor type 0 is "information": type, length 10, valid bit, reserved, 8 bytes.
            let information =
                self.bytes[8] == 0 && self.bytes[9] == 10 && self.bytes[10] & VALID != 0 && self.length >= 20;
            let number: [u8; 8] = self.bytes[12..20].try_into().ok()?;
            information.then(|| u64::from_be_bytes(number))
        } else {
            let number: [u8; 4] = self.bytes[3..7].try_into().ok()?;
            (self.bytes[0] & VALID != 0).then(|| u64::from(u32::from_be_bytes(number)))
        }
    }
}

impl core::fmt::Debug for Sense {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (code, qualifier) = self.additional();
        write!(formatter, "{:?} {code:02x}/{qualifier:02x}", self.key())?;
        match self.block() {
            Some(block) => write!(formatter, " at block {block}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format() {
        let sense = Sense::new(&[0xF0, 0, 0x03, 0, 0, 0x12, 0x34, 10, 0, 0, 0, 0, 0x11, 0x00, 0, 0, 0, 0]);
        assert_eq!(sense.key(), SenseKey::MediumError);
        assert_eq!(sense.additional(), (0x11, 0));
        assert_eq!(sense.block(), Some(0x1234));
    }

    #[test]
    fn descriptor_format() {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&[0x72, 0x04, 0x44, 0x01]);
        bytes[7] = 12;
        bytes[9..11].copy_from_slice(&[10, 0x80]);
        bytes[12..20].copy_from_slice(&0x1_0000_0002u64.to_be_bytes());
        let sense = Sense::new(&bytes);
        assert_eq!(sense.key(), SenseKey::HardwareError);
        assert_eq!(sense.additional(), (0x44, 1));
        assert_eq!(sense.block(), Some(0x1_0000_0002));
    }

    #[test]
    fn short_and_empty_sense_says_little() {
        assert_eq!(Sense::new(&[]).key(), SenseKey::NoSense);
        let short = Sense::new(&[0x70, 0, 0x05]);
        assert_eq!(short.key(), SenseKey::IllegalRequest);
        assert_eq!(short.additional(), (0, 0));
        assert_eq!(short.block(), None);
    }
}
