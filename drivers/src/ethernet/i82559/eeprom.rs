//! The serial EEPROM (93C46 with 64 words, 93C66 with 256) that holds the station's address, read bit by bit (6.3.5).

use super::registers::*;
use crate::Registers;
use crate::ethernet::MacAddress;

/// What the EEPROM says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Words 0 to 2: the station's address.
    pub mac_address: MacAddress,
    /// All words add up to 0xBABA, as they should.
    pub checksum_valid: bool,
}

/// The opcode of a read behind its start bit.
const READ: u16 = 0b110;

/// Reads the whole EEPROM; `None` when no EEPROM answers. `delay` waits for at least that many microseconds.
pub fn read<R: Registers>(registers: &R, delay: &mut dyn FnMut(u32)) -> Option<Contents> {
    let mut wires = Wires { registers, delay };
    // Ends whatever command the wires' earlier state may have begun.
    wires.end();
    let address_bits = wires.address_bits()?;
    let mut sum = 0u16;
    let mut address = [0; 6];
    for word_address in 0..1u16 << address_bits {
        let word = wires.read_word(word_address, address_bits);
        sum = sum.wrapping_add(word);
        if let Some(pair) = address.chunks_exact_mut(2).nth(usize::from(word_address)) {
            pair.copy_from_slice(&word.to_le_bytes());
        }
    }
    Some(Contents { mac_address: MacAddress(address), checksum_valid: sum == 0xBABA })
}

/// The four wires, driven by hand.
struct Wires<'a, R> {
    registers: &'a R,
    delay: &'a mut dyn FnMut(u32),
}

impl<R: Registers> Wires<'_, R> {
    /// One clock: `bit` out, and what the EEPROM drives after the rising edge back.
    fn clock(&mut self, bit: bool) -> bool {
        let low = EEPROM_SELECT | if bit { EEPROM_DATA_IN } else { 0 };
        self.registers.write16(EEPROM_CONTROL, low);
        (self.delay)(1);
        self.registers.write16(EEPROM_CONTROL, low | EEPROM_CLOCK);
        (self.delay)(1);
        self.registers.read16(EEPROM_CONTROL) & EEPROM_DATA_OUT != 0
    }

    /// Selects the EEPROM and sends the read opcode.
    fn begin_read(&mut self) {
        self.registers.write16(EEPROM_CONTROL, EEPROM_SELECT);
        (self.delay)(1);
        for bit in (0..3).rev() {
            self.clock(READ >> bit & 1 != 0);
        }
    }

    /// Ends a command; the EEPROM wants to be deselected between two.
    fn end(&mut self) {
        self.registers.write16(EEPROM_CONTROL, EEPROM_SELECT);
        (self.delay)(1);
        self.registers.write16(EEPROM_CONTROL, 0);
        (self.delay)(1);
    }

    /// How many address bits the EEPROM takes: it drives a dummy zero as soon as it has them all.
    fn address_bits(&mut self) -> Option<u32> {
        self.begin_read();
        let bits = (1..=8).find(|_| !self.clock(false));
        self.end();
        // A wire that is always low is no EEPROM either; 64 words are the smallest the chip supports.
        bits.filter(|bits| *bits >= 6)
    }

    /// Reads one word.
    fn read_word(&mut self, address: u16, address_bits: u32) -> u16 {
        self.begin_read();
        for bit in (0..address_bits).rev() {
            self.clock(address >> bit & 1 != 0);
        }
        let mut word = 0;
        for _ in 0..16 {
            word = word << 1 | u16::from(self.clock(false));
        }
        self.end();
        word
    }
}
