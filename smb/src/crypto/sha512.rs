//! SHA-512 (FIPS 180-4) for the preauthentication hash, in a small form.
//!
//! RustCrypto's is unrolled and takes 36 KiB of the image's flash. This one loops; it hashes a handful of messages a connection,
//! all of them public.

/// The fractions of the cube roots of the first 80 primes.
#[rustfmt::skip]
const ROUND_CONSTANTS: [u64; 80] = [
    0x428A_2F98_D728_AE22, 0x7137_4491_23EF_65CD, 0xB5C0_FBCF_EC4D_3B2F, 0xE9B5_DBA5_8189_DBBC,
    0x3956_C25B_F348_B538, 0x59F1_11F1_B605_D019, 0x923F_82A4_AF19_4F9B, 0xAB1C_5ED5_DA6D_8118,
    0xD807_AA98_A303_0242, 0x1283_5B01_4570_6FBE, 0x2431_85BE_4EE4_B28C, 0x550C_7DC3_D5FF_B4E2,
    0x72BE_5D74_F27B_896F, 0x80DE_B1FE_3B16_96B1, 0x9BDC_06A7_25C7_1235, 0xC19B_F174_CF69_2694,
    0xE49B_69C1_9EF1_4AD2, 0xEFBE_4786_384F_25E3, 0x0FC1_9DC6_8B8C_D5B5, 0x240C_A1CC_77AC_9C65,
    0x2DE9_2C6F_592B_0275, 0x4A74_84AA_6EA6_E483, 0x5CB0_A9DC_BD41_FBD4, 0x76F9_88DA_8311_53B5,
    0x983E_5152_EE66_DFAB, 0xA831_C66D_2DB4_3210, 0xB003_27C8_98FB_213F, 0xBF59_7FC7_BEEF_0EE4,
    0xC6E0_0BF3_3DA8_8FC2, 0xD5A7_9147_930A_A725, 0x06CA_6351_E003_826F, 0x1429_2967_0A0E_6E70,
    0x27B7_0A85_46D2_2FFC, 0x2E1B_2138_5C26_C926, 0x4D2C_6DFC_5AC4_2AED, 0x5338_0D13_9D95_B3DF,
    0x650A_7354_8BAF_63DE, 0x766A_0ABB_3C77_B2A8, 0x81C2_C92E_47ED_AEE6, 0x9272_2C85_1482_353B,
    0xA2BF_E8A1_4CF1_0364, 0xA81A_664B_BC42_3001, 0xC24B_8B70_D0F8_9791, 0xC76C_51A3_0654_BE30,
    0xD192_E819_D6EF_5218, 0xD699_0624_5565_A910, 0xF40E_3585_5771_202A, 0x106A_A070_32BB_D1B8,
    0x19A4_C116_B8D2_D0C8, 0x1E37_6C08_5141_AB53, 0x2748_774C_DF8E_EB99, 0x34B0_BCB5_E19B_48A8,
    0x391C_0CB3_C5C9_5A63, 0x4ED8_AA4A_E341_8ACB, 0x5B9C_CA4F_7763_E373, 0x682E_6FF3_D6B2_B8A3,
    0x748F_82EE_5DEF_B2FC, 0x78A5_636F_4317_2F60, 0x84C8_7814_A1F0_AB72, 0x8CC7_0208_1A64_39EC,
    0x90BE_FFFA_2363_1E28, 0xA450_6CEB_DE82_BDE9, 0xBEF9_A3F7_B2C6_7915, 0xC671_78F2_E372_532B,
    0xCA27_3ECE_EA26_619C, 0xD186_B8C7_21C0_C207, 0xEADA_7DD6_CDE0_EB1E, 0xF57D_4F7F_EE6E_D178,
    0x06F0_67AA_7217_6FBA, 0x0A63_7DC5_A2C8_98A6, 0x113F_9804_BEF9_0DAE, 0x1B71_0B35_131C_471B,
    0x28DB_77F5_2304_7D84, 0x32CA_AB7B_40C7_2493, 0x3C9E_BE0A_15C9_BEBC, 0x431D_67C4_9C10_0D4C,
    0x4CC5_D4BE_CB3E_42B6, 0x597F_299C_FC65_7E2A, 0x5FCB_6FAB_3AD6_FAEC, 0x6C44_198C_4A47_5817,
];

/// The fractions of the square roots of the first 8 primes.
#[rustfmt::skip]
const INITIAL: [u64; 8] = [
    0x6A09_E667_F3BC_C908, 0xBB67_AE85_84CA_A73B, 0x3C6E_F372_FE94_F82B, 0xA54F_F53A_5F1D_36F1,
    0x510E_527F_ADE6_82D1, 0x9B05_688C_2B3E_6C1F, 0x1F83_D9AB_FB41_BD6B, 0x5BE0_CD19_137E_2179,
];

/// A hash in the making.
pub(super) struct Sha512 {
    state: [u64; 8],
    block: [u8; 128],
    filled: usize,
    length: u128,
}

impl Sha512 {
    pub(super) const fn new() -> Sha512 {
        Sha512 { state: INITIAL, block: [0; 128], filled: 0, length: 0 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u128);
        for byte in bytes {
            self.push(*byte);
        }
    }

    pub(super) fn finish(mut self) -> [u8; 64] {
        let bits = self.length.wrapping_mul(8);
        self.push(0x80);
        while self.filled != 112 {
            self.push(0);
        }
        for byte in bits.to_be_bytes() {
            self.push(byte);
        }
        let mut hash = [0; 64];
        for (to, word) in hash.as_chunks_mut::<8>().0.iter_mut().zip(self.state) {
            *to = word.to_be_bytes();
        }
        hash
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.block.get_mut(self.filled) {
            *place = byte;
        }
        self.filled += 1;
        if self.filled == self.block.len() {
            self.compress();
            self.filled = 0;
        }
    }

    fn compress(&mut self) {
        // The message schedule, of which 16 words are needed at a time.
        let mut words = [0u64; 16];
        for (word, bytes) in words.iter_mut().zip(self.block.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = self.state;
        for (round, constant) in ROUND_CONSTANTS.iter().enumerate() {
            let word = words[round % 16];
            let sum_1 = e.rotate_right(14) ^ e.rotate_right(18) ^ e.rotate_right(41);
            let choice = (e & f) ^ (!e & g);
            let first = h.wrapping_add(sum_1).wrapping_add(choice).wrapping_add(*constant).wrapping_add(word);
            let sum_0 = a.rotate_right(28) ^ a.rotate_right(34) ^ a.rotate_right(39);
            let majority = (a & b) ^ (a & c) ^ (b & c);
            (h, g, f, e) = (g, f, e, d.wrapping_add(first));
            (d, c, b, a) = (c, b, a, first.wrapping_add(sum_0).wrapping_add(majority));
            // The word that will be needed 16 rounds on.
            let (near, far) = (words[(round + 1) % 16], words[(round + 14) % 16]);
            let small_0 = near.rotate_right(1) ^ near.rotate_right(8) ^ (near >> 7);
            let small_1 = far.rotate_right(19) ^ far.rotate_right(61) ^ (far >> 6);
            words[round % 16] =
                word.wrapping_add(small_0).wrapping_add(words[(round + 9) % 16]).wrapping_add(small_1);
        }
        for (state, change) in self.state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *state = state.wrapping_add(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use sha2::Digest;

    use super::super::tests::hex;
    use super::*;

    #[test]
    fn abc() {
        let mut hash = Sha512::new();
        hash.update(b"abc");
        assert_eq!(
            hash.finish()[..],
            hex("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")
        );
    }

    #[test]
    fn agrees_with_another_implementation_at_every_length() {
        let bytes = vec![0xA7; 600];
        for length in 0..bytes.len() {
            let mut hash = Sha512::new();
            hash.update(&bytes[..length / 3]);
            hash.update(&bytes[length / 3..length]);
            assert_eq!(hash.finish()[..], sha2::Sha512::digest(&bytes[..length])[..], "{length}");
        }
    }
}
