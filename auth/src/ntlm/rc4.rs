//! The RC4 stream cipher, as NTLM's key exchange and signatures use it. Not fit for anything else.

use zeroize::Zeroize;

/// A key stream and where it is.
#[derive(Clone)]
pub(crate) struct Rc4 {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    /// Schedules a key of at least one byte.
    pub(crate) fn new(key: &[u8]) -> Rc4 {
        let mut state = [0u8; 256];
        for (place, value) in state.iter_mut().zip(0..=255) {
            *place = value;
        }
        let mut j = 0u8;
        for (i, key) in (0..=255u8).zip(key.iter().cycle()) {
            j = j.wrapping_add(state[usize::from(i)]).wrapping_add(*key);
            state.swap(usize::from(i), usize::from(j));
        }
        Rc4 { state, i: 0, j: 0 }
    }

    /// Encrypts or decrypts in place and moves on.
    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.i = self.i.wrapping_add(1);
            let a = self.state[usize::from(self.i)];
            self.j = self.j.wrapping_add(a);
            let b = self.state[usize::from(self.j)];
            self.state.swap(usize::from(self.i), usize::from(self.j));
            *byte ^= self.state[usize::from(a.wrapping_add(b))];
        }
    }
}

impl Drop for Rc4 {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6229: 40-bit key 0x0102030405, offsets 0 and 240.
    #[test]
    fn key_stream_of_rfc_6229() {
        let mut stream = [0; 256];
        Rc4::new(&[1, 2, 3, 4, 5]).apply(&mut stream);
        let start =
            [0xB2, 0x39, 0x63, 0x05, 0xF0, 0x3D, 0xC0, 0x27, 0xCC, 0xC3, 0x52, 0x4A, 0x0A, 0x11, 0x18, 0xA8];
        let end =
            [0x28, 0xCB, 0x11, 0x32, 0xC9, 0x6C, 0xE2, 0x86, 0x42, 0x1D, 0xCA, 0xAD, 0xB8, 0xB6, 0x9E, 0xAE];
        assert_eq!(stream[..16], start);
        assert_eq!(stream[240..], end);
    }
}
