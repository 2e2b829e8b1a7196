//! The hash over all messages before authentication is complete (MS-SMB2 3.1.4.2, SMB 3.1.1).

use super::sha512::Sha512;

/// A SHA-512 chain: each message's hash is taken over the hash so far and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreauthenticationHash([u8; 64]);

impl PreauthenticationHash {
    /// The start of a connection's chain: zeros.
    pub const fn new() -> PreauthenticationHash {
        PreauthenticationHash([0; 64])
    }

    /// Continues the chain with a whole message (without the transport's length): NEGOTIATE both ways, then per session
    /// every SESSION_SETUP both ways, the final successful response left out.
    pub fn update(&mut self, message: &[u8]) {
        self.update_pieces([message]);
    }

    /// Like [`PreauthenticationHash::update`] for a message in pieces.
    pub fn update_pieces<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        let mut hash = Sha512::new();
        hash.update(&self.0);
        for piece in pieces {
            hash.update(piece);
        }
        self.0 = hash.finish();
    }

    /// The hash so far.
    pub const fn value(&self) -> &[u8; 64] {
        &self.0
    }
}

impl Default for PreauthenticationHash {
    fn default() -> PreauthenticationHash {
        PreauthenticationHash::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex;
    use super::*;

    /// The first link of "SMB 3.1.1 pre-authentication integrity in Windows 10": a client's NEGOTIATE.
    #[test]
    fn chain_of_a_negotiate_request() {
        let mut hash = PreauthenticationHash::new();
        hash.update(&hex("FE534D4240000100000000000000800000000000000000000100000000000000
            FFFE00000000000000000000000000000000000000000000000000000000000024000500000000003F000000
            ECD86F326276024F9F7752B89BB33F3A70000000020000000202100200030203110300000100260000000000
            010020000100FA49E6578F1F3A9F4CD3E9CC14A67AA884B3D05844E0E5A118225C15887F32FF0000
            0200060000000000020002000100"));
        assert_eq!(
            hash.value()[..],
            hex("DD94EFC5321BB618A2E208BA8920D2F422992526947A409B5037DE1E0FE8C736
                 2B8C47122594CDE0CE26AA9DFC8BCDBDE0621957672623351A7540F1E54A0426")
        );
    }

    #[test]
    fn pieces_are_one_message() {
        let (mut whole, mut pieces) = (PreauthenticationHash::new(), PreauthenticationHash::new());
        whole.update(b"header and body");
        pieces.update_pieces([&b"header "[..], b"and body"]);
        assert_eq!(whole, pieces);
    }
}
